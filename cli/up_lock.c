/* SPDX-License-Identifier: Apache-2.0
 *
 * up_lock.c: one `farpool up` or `farpool down` of a name at a time, by flock on
 * NAME.lock beside the state: that file itself is replaced whenever it is written. The
 * kernel gives the lock back however its holder ends. Who comes second is told by whom it
 * is held, and waits for nothing. */
#include "cli/up.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int held = -1;
static char held_path[UP_PATH_MAX];

static bool tell_holder(int fd, const char *name)
{
    char text[64] = "";
    const ssize_t size = pread(fd, text, sizeof text - 1, 0);
    text[size > 0 ? size : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return up_fail("'%s' is being worked on by %s: wait until it has ended, or end it",
                   name, text[0] ? text : "another farpool up or down");
}

/* A file that its holder has removed in the meantime locks nobody out. */
static bool is_current(int fd, const char *path)
{
    struct stat ours, named;
    return fstat(fd, &ours) == 0 && stat(path, &named) == 0 &&
           ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

static bool write_holder(int fd, const char *command)
{
    char text[64];
    const int size =
        snprintf(text, sizeof text, "`farpool %s` (pid %ld)\n", command, (long)getpid());
    return ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)size, 0) == size;
}

bool up_lock(const char *name, const char *command)
{
    char folder[UP_PATH_MAX];
    if (!up_state_folder(folder) || !up_state_file(name, "lock", held_path))
        return false;
    while (held < 0) {
        const int fd = open(held_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            return up_fail("cannot open %s: %s (XDG_STATE_HOME names another folder)",
                           held_path, strerror(errno));
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            const int code = errno;
            const bool good = code == EWOULDBLOCK ? tell_holder(fd, name)
                                                  : up_fail("%s cannot be locked: %s",
                                                            held_path, strerror(code));
            close(fd);
            return good;
        }
        if (is_current(fd, held_path))
            held = fd;
        else
            close(fd);
    }
    if (write_holder(held, command))
        return true;
    up_fail("%s cannot be written: %s", held_path, strerror(errno));
    up_unlock();
    return false;
}

void up_unlock(void)
{
    if (held < 0)
        return;
    unlink(held_path); /* while it is ours: who waits for it looks again */
    up_lock_leave();
}

void up_lock_leave(void)
{
    if (held >= 0)
        close(held);
    held = -1;
}
