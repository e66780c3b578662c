/* SPDX-License-Identifier: Apache-2.0
 *
 * protocol_page.c: writes docs/protocol.md to standard output:
 *     protocol_page >docs/protocol.md */
#include "common/base/message.h"

#include <stdio.h>

static void write_text(void *user, const char *text)
{
    fputs(text, user);
}

int main(void)
{
    message_write_page(write_text, stdout);
    return fflush(stdout) ? 1 : 0;
}
