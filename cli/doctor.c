/* SPDX-License-Identifier: Apache-2.0
 *
 * doctor.c: `farpool doctor`: one line a check of this machine and of the way to the
 * coordinator: what was found, and what to do. Clocks are not compared: nothing in
 * Farpool depends on two of them, keys included. */
#include "cli/doctor.h"
#include "cli/cli.h"
#include "cli/json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#define ANSWER_MS 3000

static const char help_text[] =
    "usage: farpool doctor [OPTIONS]\n"
    "\n"
    "Checks whether this machine can be a client or a node, and whether the coordinator\n"
    "can be reached, takes the key if there is one, speaks the same protocol and has\n"
    "workers. One line a check: ok, warning or problem, and what to do.\n"
    "\n"
    "  -c, --coordinator ADDRESS  whom to ask (default: $FARPOOL_COORDINATOR)\n"
    "  -k, --key FILE             the key to ask with (default: $FARPOOL_KEY)\n"
    "  -j, --json                 as JSON, for programs\n"
    "      --help                 this text\n"
    "\n"
    "Exit status: 0 no problem; 1 a problem; 254 usage.\n";

static const char *const words[] = {"ok", "warning", "problem"};

void doctor_add(struct doctor *doctor, const char *name, enum finding finding,
                const char *format, ...)
{
    va_list list;
    if (doctor->count == CHECKS_MAX)
        return;
    struct check *check = &doctor->checks[doctor->count++];
    check->name = name;
    check->finding = finding;
    va_start(list, format);
    vsnprintf(check->text, sizeof check->text, format, list);
    va_end(list);
}

/* -------------------------------------------------------------- the coordinator */

static void look_at_workers(struct doctor *doctor, const farpool_cluster_status *status)
{
    struct utsname here;
    size_t ready = 0, foreign = 0;
    uint64_t slots = 0;
    const bool known = uname(&here) == 0;
    for (size_t i = 0; i < status->nodes_count; i++) {
        const farpool_node_status *node = &status->nodes[i];
        if (strcmp(node->state, "ready") != 0)
            continue;
        ready++;
        slots += node->slots;
        foreign += known && strcmp(node->machine, here.machine) != 0;
    }
    if (!status->nodes_count)
        doctor_add(
            doctor, "workers", FINDING_PROBLEM,
            "no worker has joined the coordinator: start farpool-worker on a node");
    else if (!ready)
        doctor_add(doctor, "workers", FINDING_PROBLEM,
                   "all %zu workers are draining: start another one",
                   status->nodes_count);
    else if (foreign)
        doctor_add(doctor, "workers", FINDING_WARNING,
                   "%zu of %zu workers are not of machine type %s, and cannot run "
                   "programs from here",
                   foreign, ready, here.machine);
    else
        doctor_add(doctor, "workers", FINDING_OK, "%zu ready, with %" PRIu64 " slots",
                   ready, slots);
}

static void look_at_version(struct doctor *doctor, const farpool_cluster_status *status)
{
    const bool same = strcmp(status->coordinator_version, farpool_version()) == 0;
    doctor_add(doctor, "protocol", same ? FINDING_OK : FINDING_WARNING,
               same
                   ? "the coordinator (%s) speaks the same as this command (%s)"
                   : "the coordinator (%s) is of another version than this command (%s), "
                     "but speaks the same protocol",
               status->coordinator_version, farpool_version());
}

static void look_at_coordinator(struct doctor *doctor, const char *address)
{
    farpool_cluster_status *status = NULL;
    farpool_error error;
    if (!address)
        address = getenv("FARPOOL_COORDINATOR");
    if (!address || !address[0]) {
        doctor_add(doctor, "coordinator", FINDING_WARNING,
                   "no address is given: pools use this machine alone; for a cluster set "
                   "FARPOOL_COORDINATOR or give --coordinator");
        return;
    }
    const int code = farpool_cluster_get_status(address, ANSWER_MS, &status, &error);
    if (code == FARPOOL_EVERSION) {
        doctor_add(doctor, "protocol", FINDING_PROBLEM,
                   "%s: install the same version on both sides", error.text);
    } else if (code == FARPOOL_EKEY) {
        doctor_tell_key(doctor, address, &error);
    } else if (code == FARPOOL_ENOMEM) {
        doctor_add(doctor, "coordinator", FINDING_PROBLEM, "%s", error.text);
    } else if (code) {
        doctor_add(doctor, "coordinator", FINDING_PROBLEM,
                   "%s: check the address, and that farpool-coordinator runs there",
                   error.text);
    } else {
        doctor_add(doctor, "coordinator", FINDING_OK,
                   "reached at %s, up for %" PRIu64 " s", address,
                   status->uptime_ms / 1000);
        doctor_tell_key(doctor, address, NULL);
        look_at_version(doctor, status);
        look_at_workers(doctor, status);
        farpool_cluster_status_free(status);
    }
}

/* -------------------------------------------------------------------- the report */

static void print_text(const struct doctor *doctor)
{
    for (size_t i = 0; i < doctor->count; i++) {
        const struct check *check = &doctor->checks[i];
        printf("%-8s %-13s %s\n", words[check->finding], check->name, check->text);
    }
}

static int print_json(const struct doctor *doctor, size_t problems)
{
    json_t *checks = json_array();
    for (size_t i = 0; i < doctor->count; i++) {
        const struct check *check = &doctor->checks[i];
        json_array_append_new(checks, json_pack("{s:s, s:s, s:s}", "check", check->name,
                                                "finding", words[check->finding], "text",
                                                check->text));
    }
    return cli_print_json("doctor", json_pack("{s:o, s:I}", "checks", checks, "problems",
                                              (json_int_t)problems));
}

static int examine(const char *address, bool json)
{
    struct doctor doctor = {.count = 0};
    size_t problems = 0;
    doctor_look_at_machine(&doctor);
    if (doctor_look_at_key(&doctor))
        look_at_coordinator(&doctor, address);
    for (size_t i = 0; i < doctor.count; i++)
        problems += doctor.checks[i].finding == FINDING_PROBLEM;
    if (!json)
        print_text(&doctor);
    else if (print_json(&doctor, problems))
        return CLI_ERROR;
    return problems ? 1 : CLI_OK;
}

int cli_doctor(int argc, char **argv)
{
    struct cli_query query;
    int result;
    if (!cli_read_query(argc, argv, help_text, 0, &query, &result))
        return result;
    return examine(query.address, query.json);
}
