/* SPDX-License-Identifier: Apache-2.0
 *
 * keys.h: who may connect: key files, the coordinator's list of keys, and join tokens.
 *
 * A coordinator's folder (0700) has `coordinator.key`, its own pair; `authorized`, a line
 * a key: ROLE NAME PUBLICKEY [expires=TIME] [token=ID]; and `tokens`, which tells what
 * each join token is good for. A key file (0600) is what one of them holds: a version
 * line, then `field value` a line. Public and secret keys are Curve25519, written in Z85
 * (40 characters). Whatever others could read, or could have written, is refused.
 *
 * Times are seconds since 1970, by the clock of the coordinator's machine, and come from
 * the caller; in files they are in UTC: 2026-05-04T03:02:01Z.
 *
 * Errors are EKEY (what is there is not as it must be; the text names file, line and
 * rule), ESYSTEM (the system refused, with its reason) and ENOMEM. Secrets are in no text
 * that these calls make. docs/security.md tells the rest. */
#ifndef FARPOOL_KEYS_KEYS_H
#define FARPOOL_KEYS_KEYS_H

#include "common/base/holder.h"
#include "common/base/messages.def"
#include "farpool.h"

#include <stddef.h>
#include <sys/stat.h>

#define KEY_TEXT_SIZE 41 /* Z85 and its 0 */
#define KEYS_MAX 100000  /* lines of an authorized file */
#define TOKENS_MAX 10000 /* of a coordinator */
#define TOKEN_ADDRESS_MAX 255
#define TOKEN_TEXT_SIZE 512 /* a token's line and its 0 */
#define WHEN_TEXT_SIZE 21

/* What a coordinator, client, worker or admin holds. */
struct key_file {
    struct holder holder; /* its role, name and public key */
    uint8_t secret[32];
    struct hash server;                  /* the coordinator's public key */
    char address[TOKEN_ADDRESS_MAX + 1]; /* where it is, if it joined by a token */
};

/* A line of the list. */
struct key_entry {
    struct holder holder;
    int64_t expires_s;             /* from then on it is refused; 0: it does not end */
    char token[TOKEN_ID_SIZE + 1]; /* it ends with that token; empty: with none */
};

/* The keys that are let in, in the order of the file. A name is there once, but for keys
 * with an end: those that a newer one replaces. */
struct key_list {
    struct key_entry *items;
    size_t count, capacity;
};

/* A join token, as the coordinator keeps it. */
struct token_entry {
    char id[TOKEN_ID_SIZE + 1];
    struct hash key; /* public */
    int64_t made_s, expires_s;
    uint32_t uses, left; /* keys that it may enrol, in all and still */
    bool ephemeral;      /* they end with it */
    bool revoked;
};

struct token_list {
    struct token_entry *items;
    size_t count, capacity;
};

/* A join token, as who may use it has it. */
struct token {
    char address[TOKEN_ADDRESS_MAX + 1]; /* of the coordinator */
    struct hash server;                  /* its public key */
    struct hash key;                     /* the token's own */
    uint8_t secret[32];
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

/* --------------------------------------------------------------- join tokens */

/* A new pair. EADDRESS: an address that a token cannot carry. */
int token_make(const char *address, const struct hash *server, struct token *ret_token,
               farpool_error *error);
/* The line: farpool-join-1.SERVER.SECRET.ADDRESS.CHECK, of letters, digits, . _ - : /. */
void token_print(const struct token *token, char text[TOKEN_TEXT_SIZE]);
/* EINVAL says what is wrong, without the text: it may be a secret. Blanks around it are
 * skipped. */
int token_parse(const char *text, struct token *ret_token, farpool_error *error);
/* A file of one line, 0600 as a key file. */
int token_load(const char *path, struct token *ret_token, farpool_error *error);
void token_wipe(struct token *token); /* forgets the secret */
/* The first half of its public key, so that it can be told without a list. */
char *token_id(const struct hash *key, char id[TOKEN_ID_SIZE + 1]); /* returns id */
bool token_id_valid(const char *id);

/* The same from a file or, for "-", the first line of standard input, which is asked for
 * without echo if it is a terminal. */
int token_read(const char *path, struct token *ret_token, farpool_error *error);

/* The pair that is to be enrolled, kept beside `path` until it has its name, so that one
 * that was interrupted goes on with it and spends no second use. path NULL: in memory. */
int token_begin(const struct token *token, const char *path, struct key_file *ret_file,
                farpool_error *error);
/* It is listed as file->holder.name: writes `path`, never over another file. */
int token_end(const char *path, const struct key_file *file, farpool_error *error);

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
/* The same as keys_add for a name that is there; its present key ends in overlap_s. EKEY
 * if nobody has that name, or its key ends with a token. */
int keys_rotate(const char *folder, const char *name, const char *out, int64_t overlap_s,
                int64_t now_s, farpool_error *error);

/* What is asked of a folder while others may ask too. */
struct keys_request {
    enum { KEYS_ENROL, KEYS_TOKEN, KEYS_TOKEN_REVOKE } kind;
    struct hash token;              /* ENROL: who asks; TOKEN: the new one's public key */
    struct hash key;                /* ENROL: to be listed */
    char name[HOLDER_NAME_MAX + 1]; /* ENROL: wanted; what it is called in the end */
    char id[TOKEN_ID_SIZE + 1];     /* TOKEN_REVOKE */
    uint32_t expires_s, uses;       /* TOKEN, from now */
    bool ephemeral;
    /* What became of it. */
    int code; /* 0; EKEY, EINVAL, EFULL: refused */
    char text[256];
    int64_t left_s; /* ENROL: until it ends; 0: it does not */
};

/* Carries out all of them, with one new version of each file: `tokens` first, so that a
 * crash can lose a use, and never give one. Each has its own outcome; an error is that of
 * all. ENOTREADY: another process has the folder locked, and wait is false. */
int keys_apply(const char *folder, struct keys_request *requests, size_t count,
               int64_t now_s, bool wait, farpool_error *error);

/* ------------------------------------------------------------------ the list */

/* Reads the list; ret_stamp (NULL allowed) is of what was read. */
int keys_load(const char *folder, struct key_list *ret_list, struct key_stamp *ret_stamp,
              farpool_error *error);
/* The same for its text; `where` names it in errors. */
int keys_parse(const char *text, size_t size, const char *where,
               struct key_list *ret_list, farpool_error *error);
/* Whether the file is another than the one that was read (also: gone). */
bool keys_changed(const char *folder, const struct key_stamp *stamp);
const struct key_entry *keys_find(const struct key_list *list, const struct hash *key);
const struct key_entry *keys_find_name(const struct key_list *list, const char *name);
void key_list_fini(struct key_list *list);

/* The same for tokens; no file is no tokens. */
int tokens_load(const char *folder, struct token_list *ret_list,
                struct key_stamp *ret_stamp, farpool_error *error);
int tokens_parse(const char *text, size_t size, const char *where,
                 struct token_list *ret_list, farpool_error *error);
bool tokens_changed(const char *folder, const struct key_stamp *stamp);
const struct token_entry *tokens_find(const struct token_list *list,
                                      const struct hash *key);
const struct token_entry *tokens_find_id(const struct token_list *list, const char *id);
void token_list_fini(struct token_list *list);

/* When a key ends: INT64_MAX: not by itself; INT64_MIN: it has. */
int64_t keys_end(const struct key_entry *entry, const struct token_list *tokens);
/* Why a token lets nobody in, and what to do; NULL: it does. `text` may hold it. */
const char *token_refusal(const struct token_entry *token, int64_t now_s, char text[256]);

char *when_text(int64_t when_s, char text[WHEN_TEXT_SIZE]); /* returns text */
bool when_parse(const char *text, int64_t *ret_when_s);

#endif
