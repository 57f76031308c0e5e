/* Sends numbered UDP frames on an interface, as fast as it can or at a rate.

   sender INTERFACE COUNT SIZE RATE PORTS
     SIZE   bytes of a frame, 60 to 9000          RATE   frames per second, 0: as fast as it can
     PORTS  destination ports used in turn, from 9000 on

   Frame n carries n as 8 bytes, big-endian, at offset 42. AF_PACKET with sendmmsg(2), up to 64 frames a call; a frame that
   the device refuses for now (ENOBUFS) is sent again, so exactly COUNT frames go out. Prints "frames seconds".
   It stays on one CPU: each has a queue of its own in the kernel, and frames of two would overtake each other. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, MAX = 9000 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fill(uint8_t *f, int size, uint64_t n, int ports) {
    uint64_t big = htobe64(n);
    uint16_t port = htons(9000 + n % ports);
    memcpy(f + 36, &port, 2);
    memcpy(f + 42, &big, 8);
    (void)size;
}

static void template(uint8_t *f, int size) {
    static const uint8_t head[] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0,
                                   10, 99, 0, 1, 10, 99, 0, 2, 0x23, 0x28, 0, 0, 0, 0, 0, 0};
    uint32_t sum = 0;
    memset(f, 0, size);
    memcpy(f, head, sizeof head);
    *(uint16_t *)(f + 16) = htons(size - 14);
    *(uint16_t *)(f + 38) = htons(size - 34);
    for (int i = 14; i < 34; i += 2) sum += f[i] << 8 | f[i + 1];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    *(uint16_t *)(f + 24) = htons(~sum);
}

int main(int argc, char **argv) {
    if (argc != 6) return fputs("usage: sender INTERFACE COUNT SIZE RATE PORTS\n", stderr), 2;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    sched_setaffinity(0, sizeof here, &here);
    static uint8_t frames[BATCH][MAX];
    struct mmsghdr messages[BATCH] = {0};
    struct iovec parts[BATCH];
    uint64_t count = strtoull(argv[2], 0, 10), sent = 0;
    int size = atoi(argv[3]), ports = atoi(argv[5]);
    double rate = atof(argv[4]), start = now();
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1]), .sll_halen = 6};
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (fd < 0 || !to.sll_ifindex || bind(fd, (struct sockaddr *)&to, sizeof to)) return perror(argv[1]), 1;
    for (int i = 0; i < BATCH; i++) {
        template(frames[i], size);
        parts[i] = (struct iovec){frames[i], size};
        messages[i].msg_hdr.msg_iov = &parts[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
    uint64_t most = rate > 0 && rate < 5000.0 * BATCH ? rate / 5000 + 1 : BATCH; /* even at low rates, no bursts */
    while (sent < count) {
        int batch = count - sent < most ? count - sent : most, done = 0;
        for (int i = 0; i < batch; i++) fill(frames[i], size, sent + i, ports);
        while (done < batch) {
            int n = sendmmsg(fd, messages + done, batch - done, 0);
            if (n > 0) done += n;
            else if (errno != ENOBUFS && errno != EAGAIN) return perror("sendmmsg"), 1;
        }
        sent += batch;
        if (rate > 0) {
            double wait = start + sent / rate - now();
            struct timespec pause = {0, wait * 1e9};
            if (wait > 0.0002) nanosleep(&pause, 0);
        }
    }
    printf("%llu %.3f\n", (unsigned long long)sent, now() - start);
    return 0;
}
