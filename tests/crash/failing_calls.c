/* Preloaded into a broker: makes calls on some paths fail.

   The file that OTTLA_FAULT names holds "CALL ERRNO PART": from when it is there, each CALL (write,
   sync, read, open) on a file whose path holds PART fails with ERRNO. It is looked at on every call,
   so that a test may begin and end a fault while the process runs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int failing(const char *call, const char *path) {
    const char *plan = getenv("OTTLA_FAULT");
    char text[512], wanted[16], part[400];
    int code, fd;
    ssize_t size;
    if (!plan || (fd = REAL(open)(plan, O_RDONLY)) < 0) return 0;
    size = REAL(read)(fd, text, sizeof text - 1);
    REAL(close)(fd);
    if (size <= 0) return 0;
    text[size] = 0;
    if (sscanf(text, "%15s %d %399s", wanted, &code, part) != 3) return 0;
    if (strcmp(wanted, call) || !strstr(path, part)) return 0;
    errno = code;
    return 1;
}

static int failing_fd(const char *call, int fd) {
    char link[64], path[512];
    int saved = errno;
    ssize_t size;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (size <= 0) return 0;
    path[size] = 0;
    return failing(call, path);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return failing_fd("write", fd) ? -1 : REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return failing_fd("write", fd) ? -1 : REAL(pwrite64)(fd, data, size, at);
}
ssize_t pread(int fd, void *data, size_t size, off_t at) {
    return failing_fd("read", fd) ? -1 : REAL(pread)(fd, data, size, at);
}
ssize_t pread64(int fd, void *data, size_t size, off64_t at) {
    return failing_fd("read", fd) ? -1 : REAL(pread64)(fd, data, size, at);
}
int fsync(int fd) { return failing_fd("sync", fd) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return failing_fd("sync", fd) ? -1 : REAL(fdatasync)(fd); }
int syncfs(int fd) { return failing_fd("sync", fd) ? -1 : REAL(syncfs)(fd); }

static int opened(const char *name, int dir, const char *path, int flags, mode_t mode) {
    if (failing("open", path)) return -1;
    return ((int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, name))(dir, path, flags, mode);
}
static mode_t mode_of(int flags, va_list rest) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}
int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return opened("openat", AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return opened("openat64", AT_FDCWD, path, flags, mode);
}
