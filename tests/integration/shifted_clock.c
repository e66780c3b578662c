/* SPDX-License-Identifier: Apache-2.0
 *
 * shifted_clock.c: to be preloaded: the wall clock is off by as many seconds as the file
 * CLOCK_SHIFT says at that moment (eight bytes, mapped, so that it can jump at any time).
 * What counts from the start of the machine is left alone. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static const _Atomic int64_t *shift;
static int (*real_gettime)(clockid_t clock, struct timespec *ret_time);

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("CLOCK_SHIFT");
    const int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *memory =
        fd >= 0 ? mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (fd >= 0)
        close(fd);
    *(void **)&real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    if (memory == MAP_FAILED || real_gettime == NULL)
        abort(); /* a test with the right time would prove nothing */
    shift = memory;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    if (real_gettime == NULL) /* the loader's own calls */
        *(void **)&real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const int result = real_gettime(clock, ret_time);
    if (result == 0 && shift != NULL &&
        (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        ret_time->tv_sec += atomic_load(shift);
    return result;
}

EXPORT int gettimeofday(struct timeval *restrict ret_time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    ret_time->tv_sec = now.tv_sec;
    ret_time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

EXPORT time_t time(time_t *ret_time)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (ret_time != NULL)
        *ret_time = now.tv_sec;
    return now.tv_sec;
}
