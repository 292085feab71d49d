// SPDX-License-Identifier: Apache-2.0
//
// A wire with a length: two network namespaces with a delay between them. Every packet comes out at
// the other end a fixed time after it went in, in order, none lost; so a connection, a handshake and
// a question all take the round trips that they take on a real network. (The kernel's own netem
// would do the same, but is not in every kernel.)
//
// This end is the namespace that it is started in, device `wire0`; the far end is a new one, device
// `wire1`, which lives as long as this process: enter it with `nsenter --net=/proc/PID/ns/net`.
// Addresses and routes are the caller's business.
//
// usage: wire --one-way-us MICROSECONDS [--cpu N]

#include "common.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

// A window of packets under way; a burst of all sockets at once must fit.
enum { SLOTS = 1 << 15, PACKET_BYTES = 1600, DEVICE_QUEUE = 20000 };

struct packet {
    int64_t due_ns;
    int length;
    char bytes[PACKET_BYTES];
};

struct direction {
    int from, to;
    unsigned first, last; // of the ring; they run on and on
    struct packet *ring;
};

static void interface_ioctl(unsigned long request, struct ifreq *interface, const char *what) {
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (ioctl(control, request, interface)) die("%s: %s", what, strerror(errno));
    close(control);
}

static int open_device(const char *name) {
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) die("/dev/net/tun: %s", strerror(errno));
    struct ifreq interface = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strcpy(interface.ifr_name, name);
    if (ioctl(fd, TUNSETIFF, &interface)) die("cannot make %s: %s", name, strerror(errno));
    interface.ifr_qlen = DEVICE_QUEUE;
    interface_ioctl(SIOCSIFTXQLEN, &interface, "queue length");
    interface.ifr_flags = IFF_UP;
    interface_ioctl(SIOCSIFFLAGS, &interface, "up");
    return fd;
}

// Take in what has come; more than the ring holds waits in the device.
static void take(struct direction *way, int64_t delay_ns) {
    while (way->last - way->first < SLOTS) {
        struct packet *packet = &way->ring[way->last % SLOTS];
        ssize_t length = read(way->from, packet->bytes, PACKET_BYTES);
        if (length <= 0) return;
        packet->length = (int)length, packet->due_ns = now_ns() + delay_ns;
        way->last++;
    }
}

static void give(struct direction *way, int64_t now) {
    for (; way->first != way->last && way->ring[way->first % SLOTS].due_ns <= now; way->first++) {
        struct packet *packet = &way->ring[way->first % SLOTS];
        if (write(way->to, packet->bytes, (size_t)packet->length) < 0 && errno == EAGAIN) return;
    }
}

// Until when nothing is due; `now` plus a second if the wire is empty.
static int64_t next_due(const struct direction *way, int64_t now) {
    return way->first == way->last ? now + 1000000000 : way->ring[way->first % SLOTS].due_ns;
}

int main(int argc, char **argv) {
    int64_t delay_ns = -1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--one-way-us")) delay_ns = 1000 * atoll(argv[i + 1]);
        else if (!strcmp(argv[i], "--cpu")) pin_to(atoi(argv[i + 1]));
        else die("unknown option %s", argv[i]);
    }
    if (delay_ns < 0) die("usage: wire --one-way-us MICROSECONDS [--cpu N]");
    prctl(PR_SET_TIMERSLACK, 1);
    int near = open_device("wire0");
    if (unshare(CLONE_NEWNET)) die("no network namespace: %s", strerror(errno));
    int far = open_device("wire1");
    struct direction ways[2] = {{.from = near, .to = far}, {.from = far, .to = near}};
    for (int i = 0; i < 2; i++) ways[i].ring = allocate(SLOTS * sizeof(struct packet));
    puts("ready");
    fflush(stdout);
    struct pollfd devices[2] = {{.fd = near, .events = POLLIN}, {.fd = far, .events = POLLIN}};
    for (;;) {
        int64_t now = now_ns(), until = next_due(&ways[0], now), other = next_due(&ways[1], now);
        int64_t wait = (other < until ? other : until) - now;
        struct timespec pause = {.tv_sec = wait > 0 ? wait / 1000000000 : 0,
                                 .tv_nsec = wait > 0 ? wait % 1000000000 : 0};
        ppoll(devices, 2, &pause, NULL);
        for (int i = 0; i < 2; i++) take(&ways[i], delay_ns);
        now = now_ns();
        for (int i = 0; i < 2; i++) give(&ways[i], now);
    }
}
