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

/* A process is the one it was when its start is the same. */
#define UP_ALIVE                                                                         \
    "alive() { case \"$(cut -d\" \" -f3,22 \"/proc/$pid/stat\" 2>/dev/null)\" in "       \
    "\"Z \"*) return 1;; *\" $start\") return 0;; *) return 1;; esac; }; "

/* HASH LOG OPTIONS...: starts the worker, with the token on standard input or an empty
 * line, and waits until it is taken in, or tells why it is not. */
#define UP_START                                                                          \
    UP_BIN                                                                                \
    "w=$d/farpool-worker; s=${XDG_STATE_HOME:-$HOME/.local/state}/farpool/up; "           \
    "log=$s/$2; shift 2; umask 077; unset FARPOOL_KEY FARPOOL_JOIN FARPOOL_COORDINATOR; " \
    "\"$w\" --version >/dev/null || exit 92; "                                            \
    "mkdir -p \"$s\" && : >\"$log\" || exit 90; IFS= read -r token; "                     \
    "if test -n \"$token\"; then printf \"%s\\n\" \"$token\" | "                          \
    "setsid \"$w\" \"$@\" --join - >\"$log\" 2>&1 & "                                     \
    "else setsid \"$w\" \"$@\" </dev/null >\"$log\" 2>&1 & fi; "                          \
    "pid=$!; start=$(cut -d\" \" -f22 \"/proc/$pid/stat\"); i=0; why=late; " UP_ALIVE     \
    "while test $i -lt 150; do "                                                          \
    "if grep -q \" info welcomed \" \"$log\"; then "                                      \
    "echo pid=$pid; echo start=$start; echo log=$log; exit 0; fi; "                       \
    "if ! alive; then why=ended; break; fi; "                                             \
    "if grep -q \" error refused \" \"$log\"; then why=refused; break; fi; "              \
    "if test $i -gt 30 && grep -q \" coordinator-absent \" \"$log\"; then "               \
    "why=absent; break; fi; sleep 0.1 || sleep 1; i=$((i + 1)); done; "                   \
    "echo state=$why; echo line=$(grep -E \" (error|warning) \" \"$log\" | tail -n 1); "  \
    "while alive; do kill -9 $pid; sleep 0.1; done; rm -f \"$log\"; exit 93"

/* NOW PID START LOG: drains the worker (NOW 1: stops it), and waits until it is gone. One
 * that drains already is not told again: a second signal would stop it. */
#define UP_END                                                                           \
    "now=$1; pid=$2; start=$3; log=$4; i=0; " UP_ALIVE "alive || echo state=gone; "      \
    "if alive && { test $now = 1 || ! grep -q \" info draining \" \"$log\"; }; then "    \
    "kill $pid; fi; while alive; do sleep 0.1 || sleep 1; i=$((i + 1)); "                \
    "if test $now = 1 && test $i = 3; then kill $pid; fi; done; rm -f \"$log\""

#endif
