/* Preloaded into slurmd on practice nodes only. The host of these nodes mounts cgroup v1 beside v2, so that
 * /proc/<pid>/cgroup has lines of both and Slurm's cgroup/v2 plugin refuses to start ("hybrid mode"). Readers of such a
 * file get a copy that holds the v2 line alone. Everything else passes through.
 *
 * cc -shared -fPIC -O2 -Wall -Wextra -Werror -o cgroup_view.so cgroup_view.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LARGEST_FILE = 16384 };

typedef int (*open_fn)(const char *, int, ...);
typedef FILE *(*fopen_fn)(const char *, const char *);

static int is_cgroup_file(const char *path)
{
    static const char head[] = "/proc/", tail[] = "/cgroup";
    size_t length = path ? strlen(path) : 0;
    return length > strlen(head) + strlen(tail) && strncmp(path, head, strlen(head)) == 0 &&
           strcmp(path + length - strlen(tail), tail) == 0;
}

static ssize_t read_all(int fd, char *buffer, size_t size)
{
    size_t used = 0;
    while (used < size) {
        ssize_t got = read(fd, buffer + used, size - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    return (ssize_t)used;
}

/* Return a descriptor that holds the "0::" line of the file, or -1 with errno as open leaves it. */
static int open_unified_line(open_fn real_open, const char *path)
{
    char text[LARGEST_FILE + 1];
    int source = real_open(path, O_RDONLY | O_CLOEXEC);
    if (source < 0)
        return -1;
    text[read_all(source, text, LARGEST_FILE)] = '\0';
    close(source);

    const char *line = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
    if (line == NULL)
        return real_open(path, O_RDONLY | O_CLOEXEC);
    line += *line == '\n';
    size_t length = strcspn(line, "\n");
    int copy = memfd_create("cgroup-view", MFD_CLOEXEC);
    if (copy < 0)
        return -1;
    if (write(copy, line, length) != (ssize_t)length || write(copy, "\n", 1) != 1 || lseek(copy, 0, SEEK_SET) != 0) {
        close(copy);
        errno = EIO;
        return -1;
    }
    return copy;
}

static int open_either(const char *symbol, const char *path, int flags, mode_t mode)
{
    open_fn real_open = (open_fn)dlsym(RTLD_NEXT, symbol);
    return is_cgroup_file(path) ? open_unified_line(real_open, path) : real_open(path, flags, mode);
}

static FILE *fopen_either(const char *symbol, const char *path, const char *how)
{
    if (is_cgroup_file(path)) {
        int fd = open_unified_line((open_fn)dlsym(RTLD_NEXT, "open"), path);
        return fd < 0 ? NULL : fdopen(fd, "r");
    }
    return ((fopen_fn)dlsym(RTLD_NEXT, symbol))(path, how);
}

#define MODE_OF(flags)                                      \
    mode_t mode = 0;                                        \
    if ((flags) & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) { \
        va_list rest;                                       \
        va_start(rest, flags);                              \
        mode = va_arg(rest, mode_t);                        \
        va_end(rest);                                       \
    }

int open(const char *path, int flags, ...)
{
    MODE_OF(flags)
    return open_either("open", path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE_OF(flags)
    return open_either("open64", path, flags, mode);
}

FILE *fopen(const char *path, const char *how)
{
    return fopen_either("fopen", path, how);
}

FILE *fopen64(const char *path, const char *how)
{
    return fopen_either("fopen64", path, how);
}
