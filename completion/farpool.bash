# SPDX-License-Identifier: Apache-2.0
#
# Completion for farpool, farpool-coordinator and farpool-worker in bash. It knows no
# option by itself: it asks the program's own --help, so it is right for whichever version
# is installed.

# What --help lists: subcommands (below "commands:"), or options; with the long ones that
# the text names where there are subcommands.
_farpool_commands() { # HELP
    awk '/^commands:$/ { on = 1; next } on && /^$/ { exit } on { print $1 }' <<<"$1"
}

_farpool_options() { # HELP
    if [ -n "$(_farpool_commands "$1")" ]; then
        grep -oE -- '--[a-z][a-z0-9-]*' <<<"$1"
    else
        awk '/^ +-/ {
            sub(/^ +/, ""); sub(/  .*/, "")
            for (i = 1; i <= NF && $i ~ /^-/; i++) { sub(/,$/, "", $i); print $i }
        }' <<<"$1"
    fi
}

# What an option wants: FILE, N ...; nothing: no value.
_farpool_value() { # HELP OPTION
    awk -v option="$2" '/^ +-/ {
        sub(/^ +/, ""); sub(/  .*/, "")
        for (i = 1; i <= NF && $i ~ /^-/; i++) { sub(/,$/, "", $i); found += $i == option }
        if (found) { print $i; exit }
    }' <<<"$1"
}

_farpool() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} i help commands
    local -a command=("$1")
    COMPREPLY=()
    help=$("${command[@]}" --help 2>/dev/null </dev/null) || return
    for ((i = 1; i < COMP_CWORD; i++)); do
        commands=$(_farpool_commands "$help")
        grep -qxF -e "${COMP_WORDS[i]}" <<<"$commands" || break
        command+=("${COMP_WORDS[i]}")
        help=$("${command[@]}" --help 2>/dev/null </dev/null) || return
    done
    # bash takes --option=value for three words.
    [ "$current" = '=' ] && current='' before="$before="
    [ "$before" = '=' ] && before="${COMP_WORDS[COMP_CWORD - 2]}="
    case $before in
    -*)
        case $(_farpool_value "$help" "${before%=}") in
        '') ;;
        *FOLDER* | *DIR*) mapfile -t COMPREPLY < <(compgen -d -- "$current"); return ;;
        *FILE* | *PATH*) mapfile -t COMPREPLY < <(compgen -f -- "$current"); return ;;
        *) return ;;
        esac
        ;;
    esac
    commands=$(_farpool_commands "$help")
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_farpool_options "$help")" -- "$current")
    elif [ -n "$commands" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current")
    elif [[ -n $current && $help == usage:*' COMMAND '* ]]; then
        mapfile -t COMPREPLY < <(compgen -c -f -- "$current")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
    fi
}
complete -o filenames -F _farpool farpool farpool-coordinator farpool-worker
