/* A FUSE file system with one file, whose server reads every request and answers all but those for the file's contents:
 * whoever reads the file waits in the kernel, and can not be killed. `silent nothing DIR` answers the first greeting only.
 * It ends with its input. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static int device, asked;

static void answer(unsigned long unique, int error, const void *body, size_t length)
{
    char message[4096] = { 0 };
    struct fuse_out_header head = { .len = sizeof head + length, .error = error, .unique = unique };
    memcpy(message, &head, sizeof head);
    memcpy(message + sizeof head, body, length);
    if (write(device, message, sizeof head + length) < 0)
        perror("write");
}

static struct fuse_attr attributes(unsigned long node)
{
    return (struct fuse_attr){ .ino = node, .size = node == 1 ? 0 : 4096, .nlink = 1, .blksize = 4096,
        .mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0755 };
}

int main(int count, char **words)
{
    static char request[1 << 20];
    char options[100];
    int only_greets = count == 3 && !strcmp(words[1], "nothing");
    if (count != 3 || (device = open("/dev/fuse", O_RDWR | O_CLOEXEC)) < 0)
        return perror("/dev/fuse"), 1;
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", device);
    if (mount("silent", words[2], "fuse", MS_NOSUID | MS_NODEV, options) < 0)
        return perror("mount"), 1;
    puts("mounted");
    fflush(stdout);
    for (;;) {
        struct pollfd waiting[] = { { 0, POLLIN, 0 }, { device, POLLIN, 0 } };
        if (poll(waiting, 2, -1) < 0 || waiting[0].revents)
            return 0;
        if (read(device, request, sizeof request) < 0) {
            if (errno == EINTR || errno == ENOENT || errno == EAGAIN)
                continue;
            return 0;
        }
        struct fuse_in_header *head = (void *)request;
        if (head->opcode == FUSE_INIT) {
            struct fuse_init_out init = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
                .max_readahead = 4096, .max_background = 12, .congestion_threshold = 9, .max_write = 4096 };
            answer(head->unique, 0, &init, sizeof init);
            continue;
        }
        if (only_greets)
            continue;
        switch (head->opcode) {
        case FUSE_GETATTR: {
            struct fuse_attr_out out = { .attr_valid = 3600, .attr = attributes(head->nodeid) };
            answer(head->unique, 0, &out, sizeof out);
            break;
        }
        case FUSE_LOOKUP: {
            struct fuse_entry_out out = { .nodeid = 2, .entry_valid = 3600, .attr_valid = 3600, .attr = attributes(2) };
            if (strcmp((char *)(head + 1), "file"))
                answer(head->unique, -ENOENT, "", 0);
            else
                answer(head->unique, 0, &out, sizeof out);
            break;
        }
        case FUSE_OPEN:
        case FUSE_OPENDIR: {
            struct fuse_open_out out = { .open_flags = FOPEN_DIRECT_IO };
            answer(head->unique, 0, &out, sizeof out);
            break;
        }
        case FUSE_READ:
            printf("asked %d\n", ++asked);
            fflush(stdout);
            break;
        case FUSE_INTERRUPT:
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
            break;
        default:
            answer(head->unique, -ENOSYS, "", 0);
        }
    }
}
