# SPDX-License-Identifier: Apache-2.0
#
# help.awk: a program's --help as part of a manual page. whole=1: all of it, usage first;
# whole=0: from the options on, where a paragraph "Word: ..." becomes a section of its own.
# A line is an option (indented, begins with -), more about it (indented further), an
# example (indented otherwise) or text.

function quote(text) {
    gsub(/\\/, "\\(rs", text)
    gsub(/-/, "\\-", text)
    gsub(/'/, "\\(aq", text)
    sub(/^\./, "\\\\\\&.", text)
    return text
}

# Options bold, what stands for a value in italics.
function heading(text,    words, count, i, out) {
    count = split(text, words, " ")
    for (i = 1; i <= count; i++)
        out = out (i > 1 ? " " : "") (words[i] ~ /^-/ ? "\\fB" : "\\fI") quote(words[i]) "\\fP"
    return out
}

function end_example() {
    if (in_example)
        print ".fi\n.RE"
    in_example = 0
}

BEGIN { state = whole ? "usage" : "skip" }

state == "usage" {
    if ($0 == "") {
        state = "text"
        print ".PP"
        next
    }
    sub(/^usage: */, "")
    sub(/^ +/, "")
    printf "%s\\fB%s\\fP\n", usages++ ? ".br\n" : "", quote($0)
    next
}

/^ +-/ {
    end_example()
    if (state == "skip")
        print ".SH OPTIONS"
    sub(/^ +/, "")
    gap = match($0, /   *[^ ]/)
    print ".TP\n" heading(gap ? substr($0, 1, gap - 1) : $0)
    state = "option"
    if (gap) {
        rest = substr($0, gap)
        sub(/^ +/, "", rest)
        print quote(rest)
    }
    next
}

state == "skip" { next }

/^$/ {
    end_example()
    state = "blank"
    next
}

/^ / && state == "option" {
    sub(/^ +/, "")
    print quote($0)
    next
}

/^ / {
    if (!in_example)
        print ".PP\n.RS\n.nf"
    in_example = 1
    print quote($0)
    next
}

{
    end_example()
    if (state == "blank" && !whole && match($0, /^[A-Z][a-z ]*: /)) {
        print ".SH " toupper(substr($0, 1, RLENGTH - 2))
        $0 = substr($0, RLENGTH + 1)
    } else if (state == "blank" || state == "option") {
        print ".PP"
    }
    state = "text"
    print quote($0)
}

END { end_example() }
