/* SPDX-License-Identifier: Apache-2.0
 *
 * when.c: times as files and people have them, always in UTC: 2026-05-04T03:02:01Z. */
#include "common/keys/keys.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define FORM "%Y-%m-%dT%H:%M:%SZ"
#define LAST_S INT64_C(253402300799) /* 9999-12-31T23:59:59Z */

char *when_text(int64_t when_s, char text[WHEN_TEXT_SIZE])
{
    const int64_t most = when_s > LAST_S ? LAST_S : when_s;
    const time_t when = (time_t)(most < 0 ? 0 : most);
    struct tm parts;
    if (gmtime_r(&when, &parts) == NULL ||
        strftime(text, WHEN_TEXT_SIZE, FORM, &parts) == 0)
        text[0] = '\0';
    return text;
}

bool when_parse(const char *text, int64_t *ret_when_s)
{
    struct tm parts = {.tm_isdst = 0};
    char again[WHEN_TEXT_SIZE];
    const char *end = strptime(text, FORM, &parts);
    if (end == NULL || *end != '\0')
        return false;
    const int64_t when_s = timegm(&parts);
    /* strptime takes 31 February, and one digit for two. */
    if (when_s <= 0 || strcmp(when_text(when_s, again), text) != 0)
        return false;
    *ret_when_s = when_s;
    return true;
}
