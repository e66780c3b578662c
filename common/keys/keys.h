/* SPDX-License-Identifier: Apache-2.0
 *
 * keys.h: who may connect: key files and the coordinator's list of keys.
 *
 * A coordinator's folder (0700) has `coordinator.key`, its own pair, and `authorized`, a
 * line a key: ROLE NAME PUBLICKEY. A key file (0600) is what one of them holds: a version
 * line, then `field value` a line. Public and secret keys are Curve25519, written in Z85
 * (40 characters). Whatever others could read, or could have written, is refused.
 *
 * Errors are EKEY (what is there is not as it must be; the text names file, line and
 * rule), ESYSTEM (the system refused, with its reason) and ENOMEM. Secrets are in no text
 * that these calls make. docs/security.md tells the rest. */
#ifndef FARPOOL_KEYS_KEYS_H
#define FARPOOL_KEYS_KEYS_H

#include "common/base/holder.h"
#include "farpool.h"

#include <stddef.h>
#include <sys/stat.h>

#define KEY_TEXT_SIZE 41 /* Z85 and its 0 */
#define KEYS_MAX 100000  /* lines of an authorized file */

/* What a coordinator, client, worker or admin holds. */
struct key_file {
    struct holder holder; /* its role, name and public key */
    uint8_t secret[32];
    struct hash server; /* the coordinator's public key */
};

/* The keys that are let in, in the order of the file. */
struct key_list {
    struct holder *items;
    size_t count, capacity;
};

/* Which version of the list was read. */
struct key_stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed, modified;
};

bool key_name_valid(const char *name); /* 1 to 63 of A-Z a-z 0-9 _ . - */
/* HOLDER_NONE: not one of client, worker, admin. */
enum holder_role key_role_parse(const char *word);
char *key_text(const struct hash *key, char text[KEY_TEXT_SIZE]); /* returns text */
bool key_parse(const char *text, struct hash *ret_key);           /* 40 characters */

/* ----------------------------------------------------------------- key files */

/* A new pair; `server` stays zero. EINVAL names the rule of names. */
int key_make(enum holder_role role, const char *name, struct key_file *ret_file,
             farpool_error *error);
int key_load(const char *path, struct key_file *ret_file, farpool_error *error);
/* Only where nothing is yet: never over another file. */
int key_save(const char *path, const struct key_file *file, farpool_error *error);
void key_wipe(struct key_file *file); /* forgets the secret */

/* ---------------------------------------------------------------- the folder */

/* Makes the folder (it may be there, empty of keys), a coordinator's pair, and an empty
 * list. EKEY if it has a pair already. */
int keys_init(const char *folder, farpool_error *error);
/* The coordinator's own pair; its public key is `server` too. */
int keys_load_own(const char *folder, struct key_file *ret_file, farpool_error *error);
/* Makes a pair, writes it to `out` with the coordinator's public key, and adds it to the
 * list, which is replaced at once. EKEY if the name is taken. */
int keys_add(const char *folder, enum holder_role role, const char *name, const char *out,
             farpool_error *error);
/* EKEY if nobody has that name. */
int keys_revoke(const char *folder, const char *name, farpool_error *error);

/* ------------------------------------------------------------------ the list */

/* Reads the list; ret_stamp (NULL allowed) is of what was read. */
int keys_load(const char *folder, struct key_list *ret_list, struct key_stamp *ret_stamp,
              farpool_error *error);
/* The same for its text; `where` names it in errors. */
int keys_parse(const char *text, size_t size, const char *where,
               struct key_list *ret_list, farpool_error *error);
/* Whether the file is another than the one that was read (also: gone). */
bool keys_changed(const char *folder, const struct key_stamp *stamp);
const struct holder *keys_find(const struct key_list *list, const struct hash *key);
const struct holder *keys_find_name(const struct key_list *list, const char *name);
void key_list_fini(struct key_list *list);

#endif
