/* A client of an IAA work queue that knows nothing of any model: it opens the queue's file and writes descriptors.
 *
 *     client PART [ARGUMENT]
 *
 * Each part checks what a driver promises; the exit code is 0, or 1 with the line that does not hold. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define QUEUE "/dev/iax/wq0.0"
#define DEVICE "/sys/bus/dsa/devices/iax0/"
#define DEPTH 256

#define CHECK(holds)                                                                                    \
    do {                                                                                                \
        if (!(holds)) {                                                                                 \
            fprintf(stderr, "line %d: %s does not hold (errno %d)\n", __LINE__, #holds, errno);         \
            exit(1);                                                                                    \
        }                                                                                               \
    } while (0)
#define FAILS(call, code) CHECK((call) == -1 && errno == (code))

struct descriptor {
    uint32_t pasid, flags_and_opcode;
    uint64_t record, src1, dst;
    uint32_t src1_size;
    uint16_t handle, op_flags;
    uint64_t src2;
    uint32_t max_dst, src2_size, filter, elements;
} __attribute__((aligned(64)));

struct record {
    volatile uint8_t status;
    uint8_t rest[63];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct descriptor) == 64 && sizeof(struct record) == 64, "64 bytes each");

static struct descriptor noop(struct record *record) {
    struct descriptor d = {.flags_and_opcode = 0x0c, .record = (uintptr_t)record};
    record->status = 0;
    return d;
}

/* Seconds until the record is there; ends the program after ten. */
static double await(struct record *record) {
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (;;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        double passed = (now.tv_sec - start.tv_sec) + (now.tv_nsec - start.tv_nsec) / 1e9;
        if (record->status)
            return passed;
        CHECK(passed < 10);
    }
}

static int open_queue(void) {
    int fd = open(QUEUE, O_RDWR);
    CHECK(fd >= 0);
    return fd;
}

static int number(const char *path) {
    FILE *file = fopen(path, "r");
    int value = -1;
    CHECK(file && fscanf(file, "%d", &value) == 1);
    fclose(file);
    return value;
}

static void one(int fd) {
    struct record record;
    struct descriptor d = noop(&record);
    CHECK(write(fd, &d, 64) == 64);
    await(&record);
    CHECK(record.status == 1);
}

static void submission(void) {
    static struct record records[DEPTH];
    static struct descriptor d[DEPTH];
    int fd = open_queue();
    one(fd);
    for (int i = 0; i < DEPTH; i++)
        d[i] = noop(&records[i]);
    for (int sent = 0; sent < DEPTH;) {
        ssize_t taken = write(fd, d + sent, (DEPTH - sent) * 64);
        CHECK(taken > 0 && taken % 64 == 0);
        sent += taken / 64;
    }
    for (int i = 0; i < DEPTH; i++) {
        await(&records[i]);
        CHECK(records[i].status == 1);
    }
    struct iovec parts[2] = {{d, 64 * 2}, {d + 2, 64}};
    CHECK(writev(fd, parts, 2) == 64 * 3);
    int copy = dup2(fd, 100);
    CHECK(copy == 100 && close(fd) == 0);
    one(copy);
    struct stat facts;
    CHECK(fstat(copy, &facts) == 0 && stat(QUEUE, &facts) == 0);
    CHECK(close(copy) == 0);
    FAILS(write(copy, d, 64), EBADF);
}

static void hostile(void) {
    static struct record records[4];
    static struct descriptor d[4];
    int fd = open_queue();
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    CHECK(poll(&entry, 1, 0) == 0 && entry.fd == fd);
    for (int i = 0; i < 4; i++)
        d[i] = noop(&records[i]);
    d[2].record += 8;
    CHECK(write(fd, d, sizeof d) == 2 * 64);
    FAILS(write(fd, d + 2, 64), EINVAL);
    CHECK(!records[2].status && !records[3].status);
    CHECK(write(fd, d, 63) == 0);
    CHECK(write(fd, d, 64 + 63) == 64);
    CHECK(write(fd, d, 0) == 0);
    void *volatile nowhere = (void *)64;
    FAILS(write(fd, nowhere, 64), EFAULT);
    /* One descriptor before the end of memory that is there. */
    char *pages = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED && munmap(pages + 4096, 4096) == 0);
    struct descriptor *last = (struct descriptor *)(pages + 4096 - 64);
    *last = noop(&records[0]);
    ssize_t taken = write(fd, last, 128);
    CHECK(taken == 64 || (taken == -1 && errno == EFAULT));
    /* A record where no memory is: lost, and nobody is hurt. The device keeps the error, and poll tells at once. */
    struct descriptor lost = {.flags_and_opcode = 0x0c, .record = 4096 * 16};
    CHECK(write(fd, &lost, 64) == 64);
    char errors[80] = "";
    int shown = open(DEVICE "errors", O_RDONLY);
    CHECK(shown >= 0 && read(shown, errors, sizeof errors - 1) > 0 && close(shown) == 0);
    CHECK(!strcmp(errors, "00000000,00000000,00000000,00010000,00000000,00000000,00000000,00001a29\n"));
    int ends[2];
    CHECK(pipe(ends) == 0);
    struct pollfd both[2] = {{.fd = ends[0], .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    CHECK(poll(both, 2, -1) == 1 && both[0].revents == 0 && both[1].revents == POLLIN && both[1].fd == fd);
    CHECK(write(ends[1], "x", 1) == 1 && poll(both, 2, -1) == 2 && both[0].revents == POLLIN);
    /* Input where no memory is. */
    struct descriptor wild = noop(&records[1]);
    wild.flags_and_opcode |= 0x43u << 24;
    wild.src1 = 64, wild.src1_size = 4096, wild.dst = 4096 * 16, wild.max_dst = 4096;
    CHECK(write(fd, &wild, 64) == 64);
    await(&records[1]);
    CHECK(records[1].status > 1);
    volatile size_t endless = -64;
    CHECK(write(fd, d, endless) == -1);
    one(fd);
    CHECK(mmap(0, 4096, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && (errno == EPERM || errno == ENODEV));
    CHECK(mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED && (errno == EPERM || errno == ENODEV));
    FAILS(open("/dev/iax/wq9.9", O_RDWR), ENOENT);
    CHECK(open("/dev/iax/wq0.0/x", O_RDWR) == -1);
}

static void forks(void) {
    static struct record record;
    int fd = open_queue();
    int before = number(DEVICE "clients");
    pid_t child = fork();
    if (child == 0) {
        struct descriptor d = noop(&record);
        FAILS(write(fd, &d, 64), EPERM);
        int own = open_queue();
        one(own);
        CHECK(number(DEVICE "clients") == before + 1);
        /* A grandchild too. */
        pid_t grandchild = fork();
        if (grandchild == 0) {
            one(open_queue());
            _exit(0);
        }
        int status;
        CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    one(fd);
    CHECK(number(DEVICE "clients") == before);
    child = vfork();
    if (child == 0)
        _exit(0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    one(fd);
    close(fd);
    CHECK(number(DEVICE "clients") == before - 1);
}

static void *work(void *unused) {
    int fd = open_queue();
    for (int i = 0; i < 200; i++)
        one(fd);
    close(fd);
    return unused;
}

static void *fork_often(void *unused) {
    for (int i = 0; i < 30; i++) {
        pid_t child = fork();
        if (child == 0) {
            one(open_queue());
            _exit(0);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    return unused;
}

static void threads(void) {
    pthread_t thread[6];
    for (int i = 0; i < 6; i++)
        CHECK(pthread_create(&thread[i], 0, i < 5 ? work : fork_often, 0) == 0);
    for (int i = 0; i < 6; i++)
        CHECK(pthread_join(thread[i], 0) == 0);
}

static int shared_fd;

static void *use_shared(void *unused) {
    for (int i = 0; i < 200; i++)
        one(shared_fd);
    return unused;
}

static void shared(void) {
    shared_fd = open_queue();
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&thread[i], 0, use_shared, 0) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_join(thread[i], 0) == 0);
}

static void attributes(void) {
    char text[64];
    int dir = open(DEVICE, O_PATH | O_DIRECTORY);
    int fd = openat(dir, "state", O_RDONLY);
    CHECK(dir >= 0 && fd >= 0 && read(fd, text, sizeof text) == 8 && !memcmp(text, "enabled\n", 8));
    close(fd);
    fd = openat(dir, "wq0.1/size", O_RDWR | O_TRUNC);
    CHECK(fd >= 0);
    FAILS(write(fd, "8", 1), EPERM); /* the device is enabled */
    void *volatile nowhere = (void *)8;
    FAILS(write(fd, nowhere, 1), EFAULT);
    close(fd);
    CHECK(number(DEVICE "wq0.1/size") == 0);
    fd = open(DEVICE "wq0.1/name", O_WRONLY);
    CHECK(fd >= 0 && write(fd, "by hand\n", 8) == 8 && close(fd) == 0);
    FILE *file = fopen(DEVICE "wq0.1/priority", "w");
    CHECK(file && fprintf(file, "7\n") == 2 && fclose(file) == 0);
    CHECK(number(DEVICE "wq0.1/priority") == 7);
    file = fopen(DEVICE "wq0.1/priority", "w");
    CHECK(file && fprintf(file, "70\n") == 3 && fclose(file) == EOF);
    CHECK(number("/sys//bus/./dsa/devices/wq0.1/priority") == 7);
    CHECK(chdir(DEVICE "wq0.1") == 0 && getcwd(text, sizeof text));
    CHECK(!strcmp(text, "/sys/bus/dsa/devices/iax0/wq0.1"));
    fd = open("priority", O_WRONLY | O_TRUNC);
    CHECK(fd >= 0 && write(fd, "3", 1) == 1 && close(fd) == 0);
    CHECK(number("priority") == 3);
    CHECK(!strcmp(realpath("/sys/bus/dsa/devices/wq0.1", 0), text));
    CHECK(open(DEVICE "no-such-attribute", O_WRONLY | O_CREAT, 0644) == -1);
    CHECK(access(DEVICE "no-such-attribute", F_OK) == -1);
}

/* A queue that was opened by what was executed here before is another's. */
static void inherited(const char *self) {
    int fd = open_queue();
    char text[16];
    snprintf(text, sizeof text, "%d", fd);
    execl(self, self, "stranger", text, (char *)0);
    CHECK(!"executed");
}

static void late(void) {
    static struct record record;
    int fd = open_queue();
    one(fd);
    struct descriptor d = noop(&record);
    CHECK(write(fd, &d, 64) == 64);
    double passed = await(&record);
    CHECK(passed > 0.01 && passed < 5);
}

/* A dedicated queue has one client. */
static void dedicated(void) {
    int fd = open_queue();
    FAILS(open(QUEUE, O_RDWR), EBUSY);
    one(fd);
    close(fd);
    one(open_queue());
}

static int by_time(const void *a, const void *b) {
    return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b);
}

/* Nanoseconds a no-op, sent alone and sent sixteen at once, in turns: medians, for others use the machine too. */
static void bench(void) {
    enum { TIMES = 2000, BATCH = 16 };
    static struct record records[BATCH];
    static double took[2][TIMES];
    struct descriptor d[BATCH];
    int fd = open_queue();
    for (int i = 0; i < 2 * TIMES; i++) {
        int batch = i % 2 ? BATCH : 1;
        struct timespec start, end;
        for (int k = 0; k < batch; k++)
            d[k] = noop(&records[k]);
        clock_gettime(CLOCK_MONOTONIC, &start);
        CHECK(write(fd, d, batch * 64) == batch * 64);
        for (int k = 0; k < batch; k++)
            await(&records[k]);
        clock_gettime(CLOCK_MONOTONIC, &end);
        for (int k = 0; k < batch; k++)
            CHECK(records[k].status == 1);
        took[i % 2][i / 2] = ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / batch;
    }
    for (int kind = 0; kind < 2; kind++)
        qsort(took[kind], TIMES, sizeof(double), by_time);
    printf("{\"noop_alone_ns\":%.0f,\"noop_of_sixteen_ns\":%.0f}\n", took[0][TIMES / 2], took[1][TIMES / 2]);
}

int main(int argc, char **argv) {
    CHECK(argc > 1);
    const char *part = argv[1];
    struct { const char *name; void (*run)(void); } parts[] = {
        {"submission", submission}, {"hostile", hostile}, {"forks", forks},     {"threads", threads},
        {"shared", shared},         {"late", late},       {"bench", bench},     {"attributes", attributes},
        {"dedicated", dedicated},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strcmp(part, parts[i].name)) {
            parts[i].run();
            return 0;
        }
    if (!strcmp(part, "inherited"))
        inherited(argv[0]);
    CHECK(!strcmp(part, "stranger") && argc == 3);
    struct record record;
    struct descriptor d = noop(&record);
    int fd = atoi(argv[2]);
    if (getenv("ZFOLIO_EMULATE")) /* a file system knows only processes, and this is the same */
        FAILS(write(fd, &d, 64), EPERM);
    one(open_queue());
    return 0;
}
