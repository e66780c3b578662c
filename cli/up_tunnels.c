/* SPDX-License-Identifier: Apache-2.0
 *
 * up_tunnels.c: how tunnels stand, in NAME.tunnels beside the state: written by the
 * keeper alone (up_keeper.c), read by `farpool up`, `down` and `status`. */
#include "cli/up.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static json_t *tunnel_json(const struct up_tunnel *tunnel)
{
    return json_pack("{s:s, s:b, s:I, s:i, s:s, s:o}", "node", tunnel->node, "up",
                     (int)tunnel->is_up, "since_s", (json_int_t)tunnel->since_s,
                     "made_anew", (int)tunnel->made_anew, "why", tunnel->why, "ssh",
                     up_process_json(&tunnel->ssh));
}

bool up_tunnels_save(const struct up_state *state, const struct up_tunnel *tunnels,
                     size_t count)
{
    char path[UP_PATH_MAX];
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, tunnel_json(&tunnels[i]));
    json_t *root = json_pack("{s:s, s:o, s:o}", "coordinator", state->address, "keeper",
                             up_process_json(&state->keeper), "tunnels", list);
    if (!up_state_file(state->name, "tunnels", path)) {
        json_decref(root);
        return false;
    }
    return up_write_json(path, root) ||
           up_fail("%s cannot be written: %s", path, strerror(errno));
}

static void get_text(const json_t *object, const char *name, char *ret_text, size_t size)
{
    const char *text = json_string_value(json_object_get(object, name));
    snprintf(ret_text, size, "%s", text ? text : "");
}

static void read_tunnel(const json_t *item, const char *up, bool kept,
                        struct up_tunnel *tunnel)
{
    *tunnel = (struct up_tunnel){
        .since_s = json_integer_value(json_object_get(item, "since_s")),
        .made_anew = (unsigned)json_integer_value(json_object_get(item, "made_anew")),
        .is_up = json_is_true(json_object_get(item, "up")),
        .ssh = up_process_read(item, "ssh")};
    snprintf(tunnel->up, sizeof tunnel->up, "%s", up);
    get_text(item, "node", tunnel->node, sizeof tunnel->node);
    get_text(item, "why", tunnel->why, sizeof tunnel->why);
    if (kept || up_process_is_there(&tunnel->ssh))
        return;
    tunnel->is_up = false;
    snprintf(tunnel->why, sizeof tunnel->why,
             "the process that keeps tunnels is gone: `farpool down %s`, and up again",
             up);
}

/* Adds those of one file. */
static size_t load_file(const char *path, const char *address, struct up_tunnel **tunnels,
                        size_t count)
{
    char up[UP_NAME_MAX + 1], of[256];
    json_t *root = json_load_file(path, 0, NULL); /* none: nothing is kept */
    const json_t *list = json_object_get(root, "tunnels");
    const struct up_process keeper = up_process_read(root, "keeper");
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    snprintf(up, sizeof up, "%.*s", (int)strcspn(name, "."), name);
    get_text(root, "coordinator", of, sizeof of);
    const size_t more = !address || strcmp(of, address) == 0 ? json_array_size(list) : 0;
    struct up_tunnel *grown =
        more ? realloc(*tunnels, (count + more) * sizeof *grown) : NULL;
    if (grown) {
        const bool kept = up_process_is_there(&keeper);
        *tunnels = grown;
        for (size_t i = 0; i < more; i++)
            read_tunnel(json_array_get(list, i), up, kept, &grown[count + i]);
    }
    json_decref(root);
    return grown ? count + more : count;
}

size_t up_tunnels_load(const char *name, const char *address,
                       struct up_tunnel **ret_tunnels)
{
    char path[UP_PATH_MAX];
    glob_t found;
    size_t count = 0;
    *ret_tunnels = NULL;
    if (!up_state_file(name ? name : "*", "tunnels", path) ||
        glob(path, 0, NULL, &found) != 0)
        return 0;
    for (size_t i = 0; i < found.gl_pathc; i++)
        count = load_file(found.gl_pathv[i], address, ret_tunnels, count);
    globfree(&found);
    return count;
}

void up_tunnels_remove(const struct up_state *state)
{
    char path[UP_PATH_MAX];
    glob_t found;
    if (up_state_file(state->name, "tunnels", path))
        unlink(path);
    if (!up_state_file(state->name, "*.tunnel.log", path) ||
        glob(path, 0, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++)
        unlink(found.gl_pathv[i]);
    globfree(&found);
}
