/* Lets the wall clock of one lab host jump: the seconds in /run/wall-clock are added to the time of day.
   Loaded into every program of the host by /etc/ld.so.preload. The monotonic clock stays as it is, and so
   does the clock of the machine. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void)
{
    static volatile long *shown;
    if (!shown) {
        int file = open("/run/wall-clock", O_RDONLY | O_CLOEXEC);
        if (file < 0)
            return 0;
        void *memory = mmap(0, sizeof *shown, PROT_READ, MAP_SHARED, file, 0);
        close(file);
        if (memory == MAP_FAILED)
            return 0;
        shown = memory;
    }
    return *shown;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += offset();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    static int (*real)(struct timeval *, void *);
    if (!real)
        real = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    if (result == 0)
        now->tv_sec += offset();
    return result;
}

time_t time(time_t *now)
{
    struct timespec moment;
    clock_gettime(CLOCK_REALTIME, &moment);
    if (now)
        *now = moment.tv_sec;
    return moment.tv_sec;
}
