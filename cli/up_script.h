/* SPDX-License-Identifier: Apache-2.0
 *
 * up_script.h: what runs on a host that ssh reaches: scripts for any POSIX sh, given as
 * `sh -c`, so that the user's own login shell does not matter. They have no apostrophe,
 * and say what they found in lines NAME=VALUE. Secrets come on standard input only.
 *
 * Exit statuses of their own: 90 and up, each with a meaning in up_ssh_explain. */
#ifndef FARPOOL_CLI_UP_SCRIPT_H
#define FARPOOL_CLI_UP_SCRIPT_H

enum {
    UP_NO_SPACE_OR_RIGHT = 90, /* a folder or file could not be written */
    UP_BAD_COPY,               /* what came is not what was sent */
    UP_DOES_NOT_RUN,           /* the worker's executable */
    UP_NOT_CONNECTED,          /* see state= and line= */
    UP_TAKEN,                  /* another's worker has that name; line= is its process */
};

#define UP_BIN "d=${XDG_CACHE_HOME:-$HOME/.cache}/farpool/bin/$1; "

/* HASH: what is there? */
#define UP_PROBE                                                                         \
    UP_BIN "echo os=$(uname -s); echo machine=$(uname -m); "                             \
           "for t in setsid sha256sum grep cut mktemp; do "                              \
           "command -v $t >/dev/null 2>&1 || echo missing=$t; done; "                    \
           "if test -x \"$d/farpool-worker\"; then echo worker=yes; fi"

/* HASH, with the executable on standard input. */
#define UP_STORE                                                                         \
    UP_BIN "umask 077; mkdir -p \"$d\" || exit 90; "                                     \
           "t=$(mktemp \"$d/.new.XXXXXX\") || exit 90; "                                 \
           "trap \"rm -f \\\"$t\\\"\" EXIT; cat >\"$t\" || exit 90; "                    \
           "h=$(sha256sum <\"$t\"); test \"${h%% *}\" = \"$1\" || exit 91; "             \
           "chmod 700 \"$t\" && mv -f \"$t\" \"$d/farpool-worker\" || exit 90"

/* What is known there of the worker NAME.NODE, each a file of one line, ID PID START
 * SCRIPT SCRIPT-START: whose `farpool up` it is of, the worker, and who starts it.
 *   .starting  it runs, and ends with the script that started it
 *   .worker    it was told to stay, when the state knew it
 *   .ending    it is being ended
 * One becomes another by rename, which one of two succeeds in. */
#define UP_PLACE "s=${XDG_STATE_HOME:-$HOME/.local/state}/farpool/up; "

/* A process is the one it was when its start is the same. */
#define UP_ALIVE                                                                         \
    "since() { cut -d\" \" -f22 \"/proc/$1/stat\" 2>/dev/null; }; "                      \
    "alive() { case \"$(cut -d\" \" -f3,22 \"/proc/$1/stat\" 2>/dev/null)\" in "         \
    "\"Z \"*) return 1;; *\" $2\") return 0;; *) return 1;; esac; }; "                   \
    "finish() { while alive \"$1\" \"$2\"; do kill -9 \"$1\"; sleep 0.1 || sleep 1; "    \
    "done; }; "

/* Ends what an earlier start left, that nobody was told to keep; 94: it is another's. */
#define UP_SWEEP                                                                         \
    "for e in starting ending worker; do test -e \"$f.$e\" || continue; o=; "            \
    "read -r o p t by at <\"$f.$e\" || continue; if alive \"$p\" \"$t\"; then "          \
    "if test \"$o\" != \"$id\" && { test $e = worker || "                                \
    "{ test $e = starting && alive \"$by\" \"$at\"; }; }; then "                         \
    "echo line=$p; exit 94; fi; finish \"$p\" \"$t\"; fi; rm -f \"$f.$e\"; done; "

/* In the worker's process, before it is one: it is known, or it does not begin. */
#define UP_BEGIN                                                                         \
    "begin() { read -r p x </proc/self/stat && "                                         \
    "echo \"$id $p $(since \"$p\") $$ $mine\" >\"$f.$$\" || exit 90; "                   \
    "ln \"$f.$$\" \"$f.starting\" 2>/dev/null || exit 94; rm -f \"$f.$$\"; "             \
    "exec setsid \"$w\" \"$@\" >\"$log\" 2>&1; }; "                                      \
    "own() { o=; read -r o p x <\"$f.starting\" && test \"$o $p\" = \"$id $pid\"; } "    \
    "2>/dev/null; "

/* Beside the script, and when it is killed or hears nothing for 90 s, the worker ends. */
#define UP_GUARD                                                                         \
    "{ i=0; while own && alive $$ \"$mine\" && test $i -lt 180; do "                     \
    "sleep 0.5 || sleep 1; i=$((i + 1)); done; own || exit 0; "                          \
    "mv \"$f.starting\" \"$f.ending\" || exit 0; finish \"$pid\" \"$start\"; "           \
    "rm -f \"$f.ending\" \"$log\"; finish $$ \"$mine\"; } "                              \
    "</dev/null >/dev/null 2>&1 & "

/* HASH NAME.NODE ID OPTIONS...: starts the worker, with the token on standard input or an
 * empty line, waits until it is taken in, says who it is, and reads one more line: `keep`
 * lets it stay. Anything else, and also that ssh has gone, ends it. */
#define UP_START                                                                             \
    UP_BIN UP_PLACE                                                                          \
        "w=$d/farpool-worker; f=$s/$2; log=$f.log; id=$3; shift 3; umask 077; "              \
        "unset FARPOOL_KEY FARPOOL_JOIN FARPOOL_COORDINATOR; "                               \
        "\"$w\" --version >/dev/null || exit 92; "                                           \
        "mkdir -p \"$s\" || exit 90; IFS= read -r token; " UP_ALIVE UP_SWEEP                 \
        "mine=$(since $$); " UP_BEGIN                                                        \
        "if test -n \"$token\"; then printf \"%s\\n\" \"$token\" | begin \"$@\" --join - & " \
        "else begin \"$@\" </dev/null & fi; pid=$!; start=$(since $pid); trap : PIPE; "      \
        "until own; do if ! alive $pid \"$start\"; then wait $pid; c=$?; own && break; "     \
        "rm -f \"$f.$$\"; test $c = 94 && read -r o p x <\"$f.starting\" && echo line=$p; "  \
        "exit $c; fi; "                                                                      \
        "sleep 0.1 || sleep 1; done; " UP_GUARD                                              \
        "i=0; why=late; while test $i -lt 150; do "                                          \
        "if grep -q \" info welcomed \" \"$log\"; then "                                     \
        "echo pid=$pid; echo start=$start; echo log=$log; echo ready=yes; why=cut; "         \
        "IFS= read -r word && test \"$word\" = keep && own && "                              \
        "mv \"$f.starting\" \"$f.worker\" && { echo kept=yes; exit 0; }; break; fi; "        \
        "if ! alive $pid \"$start\"; then why=ended; break; fi; "                            \
        "if grep -q \" error refused \" \"$log\"; then why=refused; break; fi; "             \
        "if test $i -gt 30 && grep -q \" coordinator-absent \" \"$log\"; then "              \
        "why=absent; break; fi; sleep 0.1 || sleep 1; i=$((i + 1)); done; "                  \
        "echo state=$why; echo line=$(grep -E \" (error|warning) \" \"$log\" | tail -n 1); " \
        "own && mv \"$f.starting\" \"$f.ending\" && { finish $pid \"$start\"; "              \
        "rm -f \"$f.ending\" \"$log\"; }; exit 93"

/* NOW PID START LOG NAME.NODE ID: drains the worker (NOW 1: stops it), and waits until it
 * is gone. PID 0: whichever is there with that id. One that drains already is not told
 * again: a second signal would stop it. */
#define UP_END                                                                           \
    UP_PLACE                                                                             \
    "now=$1; pid=$2; start=$3; log=$4; f=$s/$5; id=$6; i=0; " UP_ALIVE                   \
    "for e in starting ending worker; do o=; test -e \"$f.$e\" && "                      \
    "read -r o p t x <\"$f.$e\" && test \"$o\" = \"$id\" || continue; "                  \
    "if test $e = starting; then mv \"$f.starting\" \"$f.ending\" || continue; fi; "     \
    "pid=$p; start=$t; log=$f.log; done; "                                               \
    "alive $pid $start || echo state=gone; "                                             \
    "if alive $pid $start && { test $now = 1 || "                                        \
    "! grep -q \" info draining \" \"$log\"; }; then kill $pid; fi; "                    \
    "while alive $pid $start; do sleep 0.1 || sleep 1; i=$((i + 1)); "                   \
    "if test $now = 1 && test $i = 3; then kill $pid; fi; done; "                        \
    "for e in starting ending worker; do o=; test -e \"$f.$e\" && "                      \
    "read -r o x <\"$f.$e\" && test \"$o\" = \"$id\" && rm -f \"$f.$e\"; done; "         \
    "test -z \"$log\" || rm -f \"$log\""

#endif
