/* A disk that fails while a file exists: what FAIL_SYNC names makes every sync fail, FAIL_SPACE every write to a file. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int on(const char *variable)
{
    const char *path = getenv(variable);
    return path && access(path, F_OK) == 0;
}

static int no_sync(void) { return on("FAIL_SYNC") ? (errno = EIO, 1) : 0; }

static int no_space(int fd)
{
    struct stat found;
    return on("FAIL_SPACE") && fstat(fd, &found) == 0 && S_ISREG(found.st_mode) ? (errno = ENOSPC, 1) : 0;
}

int fsync(int fd) { return no_sync() ? -1 : (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return no_sync() ? -1 : (int)syscall(SYS_fdatasync, fd); }

ssize_t write(int fd, const void *data, size_t size)
{
    return no_space(fd) ? -1 : syscall(SYS_write, fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    return no_space(fd) ? -1 : syscall(SYS_pwrite64, fd, data, size, at);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    return no_space(fd) ? -1 : syscall(SYS_pwrite64, fd, data, size, at);
}
