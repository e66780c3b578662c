/* SPDX-License-Identifier: Apache-2.0
 *
 * doctor_machine.c: what pools and workers need of this machine: open files, cores,
 * memory, the system calls that processes are made with, and the folder that a worker
 * keeps programs in. Nothing is made or changed. */
#include "cli/doctor.h"
#include "common/sys/cores.h"
#include "common/sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILES_OF_A_SLOT 6 /* as a worker counts them */
#define FILES_BESIDES 64
#define MEMORY_OF_A_SLOT (UINT64_C(64) << 20) /* less is worth a warning */
#define SPACE_MIN (UINT64_C(100) << 20)       /* the same of the cache folder */

static void look_at_files(struct doctor *doctor)
{
    const uint64_t slots = sys_cores(), need = FILES_OF_A_SLOT * slots + FILES_BESIDES;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        doctor_add(doctor, "open-files", FINDING_PROBLEM, "getrlimit: %s",
                   strerror(errno));
        return;
    }
    if (limit.rlim_max < need)
        doctor_add(doctor, "open-files", FINDING_PROBLEM,
                   "the hard limit is %" PRIu64 ", and a worker with %" PRIu64
                   " slots needs %" PRIu64
                   ": raise it (ulimit -Hn, LimitNOFILE=), or give --slots",
                   (uint64_t)limit.rlim_max, slots, need);
    else
        doctor_add(doctor, "open-files", FINDING_OK,
                   "soft limit %" PRIu64 ", hard limit %" PRIu64
                   "; a worker with %" PRIu64 " slots needs %" PRIu64
                   " and raises the soft one itself",
                   (uint64_t)limit.rlim_cur, (uint64_t)limit.rlim_max, slots, need);
}

static void look_at_cores(struct doctor *doctor)
{
    struct cgroup_limits limits;
    char quota[64] = "no cgroup quota";
    cpu_set_t set;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    const int allowed = sched_getaffinity(0, sizeof set, &set) ? 0 : CPU_COUNT(&set);
    cgroup_read_limits("", &limits);
    if (limits.cores != UINT32_MAX)
        snprintf(quota, sizeof quota, "a cgroup quota of %u", limits.cores);
    doctor_add(doctor, "cores", FINDING_OK,
               "%ld online, %d in this process's affinity, %s: a pool or worker here has "
               "%u slots unless told otherwise",
               online, allowed, quota, sys_cores());
}

static void look_at_memory(struct doctor *doctor)
{
    const uint64_t bytes = sys_memory_bytes(), slots = sys_cores();
    struct cgroup_limits limits;
    cgroup_read_limits("", &limits);
    const char *limited = limits.memory_bytes <= bytes ? " (the cgroup's limit)" : "";
    if (bytes / slots < MEMORY_OF_A_SLOT)
        doctor_add(doctor, "memory", FINDING_WARNING,
                   "%" PRIu64 " MiB%s for %" PRIu64
                   " slots is little: raise the limit, or give workers fewer --slots",
                   bytes >> 20, limited, slots);
    else
        doctor_add(doctor, "memory", FINDING_OK, "%" PRIu64 " MiB%s", bytes >> 20,
                   limited);
}

static void look_at_call(struct doctor *doctor, const char *name, int fd, const char *why)
{
    if (fd < 0) {
        doctor_add(doctor, name, FINDING_PROBLEM,
                   "%s: %s; %s (Linux 5.3 or newer, and a container that allows it)",
                   name, strerror(errno), why);
        return;
    }
    close(fd);
    doctor_add(doctor, name, FINDING_OK, "available");
}

static void look_at_calls(struct doctor *doctor)
{
    look_at_call(doctor, "memfd_create",
                 memfd_create("farpool-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING),
                 "without it no process can be fed");
    look_at_call(doctor, "pidfd_open", (int)syscall(SYS_pidfd_open, getpid(), 0),
                 "without it the end of a process is not noticed");
}

static void look_at_executable(struct doctor *doctor)
{
    const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        doctor_add(doctor, "executable", FINDING_PROBLEM,
                   "/proc/self/exe: %s; programs are named and sent by it: mount /proc",
                   strerror(errno));
    else
        doctor_add(doctor, "executable", FINDING_OK, "/proc/self/exe is readable");
    if (fd >= 0)
        close(fd);
}

/* ------------------------------------------------------------------- the cache */

/* As a worker chooses it. false: there is none. */
static bool cache_folder(char *path, size_t size)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = -1;
    if (cache && cache[0] == '/')
        length = snprintf(path, size, "%s/farpool", cache);
    else if (home && home[0] == '/')
        length = snprintf(path, size, "%s/.cache/farpool", home);
    return length > 0 && (size_t)length < size;
}

static void look_at_space(struct doctor *doctor, const char *folder, const char *note)
{
    struct statvfs space;
    if (statvfs(folder, &space) != 0) {
        doctor_add(doctor, "cache", FINDING_PROBLEM, "%s: %s", folder, strerror(errno));
        return;
    }
    const uint64_t bytes = (uint64_t)space.f_bavail * space.f_frsize;
    if (space.f_flag & ST_NOEXEC)
        doctor_add(doctor, "cache", FINDING_PROBLEM,
                   "%s is mounted noexec, and programs are started from there: give "
                   "workers --cache, or set XDG_CACHE_HOME",
                   folder);
    else if (bytes < SPACE_MIN)
        doctor_add(doctor, "cache", FINDING_WARNING,
                   "%s has only %" PRIu64 " MiB free for programs", folder, bytes >> 20);
    else
        doctor_add(doctor, "cache", FINDING_OK, "%s, %" PRIu64 " MiB free%s", folder,
                   bytes >> 20, note);
}

/* The folder is not there yet: what it would be made in must let us. */
static void look_at_parent(struct doctor *doctor, char *path)
{
    char wanted[PATH_MAX], note[PATH_MAX + 64];
    char *slash;
    snprintf(wanted, sizeof wanted, "%s", path);
    while (access(path, F_OK) != 0 && (slash = strrchr(path, '/')) != NULL)
        slash[slash == path] = '\0';
    if (access(path, W_OK | X_OK) != 0) {
        doctor_add(doctor, "cache", FINDING_PROBLEM,
                   "%s cannot be made: %s: %s; give workers --cache, or set "
                   "XDG_CACHE_HOME",
                   wanted, path, strerror(errno));
        return;
    }
    snprintf(note, sizeof note, " (a worker will make %s)", wanted);
    look_at_space(doctor, path, note);
}

static void look_at_cache(struct doctor *doctor)
{
    char path[PATH_MAX];
    struct stat status;
    if (!cache_folder(path, sizeof path)) {
        doctor_add(doctor, "cache", FINDING_PROBLEM,
                   "a worker has no folder for programs: set HOME or XDG_CACHE_HOME, or "
                   "give --cache");
    } else if (stat(path, &status) != 0 && errno == ENOENT) {
        look_at_parent(doctor, path);
    } else if (stat(path, &status) != 0) {
        doctor_add(doctor, "cache", FINDING_PROBLEM, "%s: %s", path, strerror(errno));
    } else if (!S_ISDIR(status.st_mode)) {
        doctor_add(doctor, "cache", FINDING_PROBLEM, "%s is not a folder", path);
    } else if (status.st_uid != geteuid()) {
        doctor_add(doctor, "cache", FINDING_PROBLEM,
                   "%s belongs to uid %u, not to this user (%u), and what is in it is "
                   "executed: chown it, or give workers --cache",
                   path, (unsigned)status.st_uid, (unsigned)geteuid());
    } else if (status.st_mode & 022) {
        doctor_add(doctor, "cache", FINDING_PROBLEM,
                   "others may write into %s (mode %03o), and what is in it is executed: "
                   "chmod go-w %s",
                   path, (unsigned)status.st_mode & 0777, path);
    } else {
        look_at_space(doctor, path, "");
    }
}

void doctor_look_at_machine(struct doctor *doctor)
{
    look_at_files(doctor);
    look_at_cores(doctor);
    look_at_memory(doctor);
    look_at_calls(doctor);
    look_at_executable(doctor);
    look_at_cache(doctor);
}
