/* Nothing in the folders above can be written by the pod's user, so no name in them is a trap. */
#include "core/node/pod_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/node/host_user.h"

static enum errc write_file(const char *dir, uint32_t group, const struct pod_file *file,
                            struct error *err) {
    AUTO_FREE char *path = mem_printf("%s/%s", dir, file->name);
    AUTO_FREE char *fresh = mem_printf("%s/.%s.new", dir, file->name);
    size_t len = strlen(file->text);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0400);
    bool ok = fd >= 0 && write(fd, file->text, len) == (ssize_t)len &&
              !fchown(fd, (uid_t)-1, group) && !fchmod(fd, 0440);
    if (fd >= 0)
        close(fd);
    return ok && !rename(fresh, path) ? OK : err_errno(err, "write %s", path);
}

enum errc pod_files_write(const char *dir, uint32_t group, const struct pod_file *files, size_t num,
                          struct error *err) {
    enum errc rc = host_parents_make(dir, err);
    if (!rc && mkdir(dir, 0750) && errno != EEXIST)
        rc = err_errno(err, "make folder %s", dir);
    if (!rc && (chown(dir, (uid_t)-1, group) || chmod(dir, 0750)))
        rc = err_errno(err, "give folder %s to group %u", dir, group);
    for (size_t i = 0; i < num && !rc; i++)
        rc = write_file(dir, group, &files[i], err);
    return rc;
}
