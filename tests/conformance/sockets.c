/*
 * Sockets: which families there are, what netlink may change, and whom a name reaches
 *
 * A family that is refused must be refused by the filter, not by the kernel: to say that it does
 * not know the family (EAFNOSUPPORT), the kernel may first load a module for it. CVE-2010-3904
 * (RDS), CVE-2016-8655 and CVE-2020-14386 (packet), CVE-2017-7308, CVE-2019-8912 (ALG),
 * CVE-2021-26708 (vsock), CVE-2021-43267 (TIPC), CVE-2017-1000251 (Bluetooth), CVE-2017-6074
 * (DCCP).
 */
#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conformance.h"

/* @number: family, @args: type and protocol. */
static Verdict sockets_family(const Check *c) {
        return verdict_refused(c->name, syscall(SYS_socket, c->number, c->args[0], c->args[1]));
}

static Verdict sockets_pair(const Check *c) {
        int ends[2];

        return verdict_refused(c->name,
                               syscall(SYS_socketpair, c->number, c->args[0], c->args[1], ends));
}

/* Not there: by the filter or by the kernel. */
static Verdict sockets_protocol(const Check *c) {
        return verdict_denied(c->name, socket((int)c->number, (int)c->args[0], (int)c->args[1]));
}

/* ---- route netlink: it answers, it changes nothing ---- */

/* Return: the kernel's answer, 0 or negative errno. */
static int sockets_route_request(int type, const void *body, size_t size) {
        struct {
                struct nlmsghdr header;
                unsigned char body[128];
        } request = {
                .header = {.nlmsg_len = (unsigned)NLMSG_LENGTH(size),
                           .nlmsg_type = (unsigned short)type,
                           .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL}};
        union {
                struct nlmsghdr header;
                unsigned char bytes[4096];
        } answer = {0};
        const struct nlmsgerr *error;
        int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

        memcpy(NLMSG_DATA(&request.header), body, size);
        if (fd < 0 || send(fd, &request, request.header.nlmsg_len, 0) < 0 ||
            recv(fd, &answer, sizeof answer, 0) < 0)
                return -errno;
        error = NLMSG_DATA(&answer.header);
        return answer.header.nlmsg_type == NLMSG_ERROR ? error->error : 0;
}

/* @number: message type; the body is the family's smallest, of zeros. The kernel asks for the
 * privilege before it reads it. */
static Verdict sockets_route_change(const Check *c) {
        const unsigned char body[64] = {0};
        int r = sockets_route_request((int)c->number, body, (size_t)c->args[0]);

        errno = -r;
        return verdict_refused(c->name, r);
}

static Verdict sockets_route_link_up(const Check *c) {
        const struct ifinfomsg up = {.ifi_index = 1, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
        int r = sockets_route_request(RTM_NEWLINK, &up, sizeof up);

        errno = -r;
        return verdict_refused("RTM_NEWLINK", r);
}

/* ---- names ---- */

static int sockets_connect(const char *name, size_t size) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        memcpy(address.sun_path, name, size);
        return connect(fd, (struct sockaddr *)&address,
                       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size));
}

static Verdict sockets_abstract(const Check *c) {
        char name[sizeof((struct sockaddr_un *)0)->sun_path] = "";
        int n = snprintf(name + 1, sizeof name - 1, "%s", facts[FACT_ABSTRACT]);

        return verdict_denied("connecting", sockets_connect(name, (size_t)n + 1));
}

static Verdict sockets_path(const Check *c) {
        return verdict_denied("connecting", sockets_connect(c->text, strlen(c->text) + 1));
}

/* Nobody may sign as another process or user: SO_PASSCRED's receiver believes it. */
static Verdict sockets_forge(const Check *c) {
        const struct ucred forged = {
                .pid = c->number ? 1 : getpid(), .uid = c->number ? getuid() : 0, .gid = getgid()};
        union {
                char bytes[CMSG_SPACE(sizeof(struct ucred))];
                struct cmsghdr align;
        } control = {0};
        struct iovec data = {.iov_base = (char[]){"x"}, .iov_len = 1};
        struct msghdr message = {.msg_iov = &data,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof control};
        struct cmsghdr *h = CMSG_FIRSTHDR(&message);
        int ends[2];

        if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
                return verdict_expect(false, "a socket pair", "%s", errno_name(errno));
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_CREDENTIALS;
        h->cmsg_len = CMSG_LEN(sizeof forged);
        memcpy(CMSG_DATA(h), &forged, sizeof forged);
        return verdict_refused("SCM_CREDENTIALS", sendmsg(ends[0], &message, 0));
}

#define FAMILY(name_, family, type, protocol)                                                      \
        {                                                                                          \
                .name = (name_), .run = sockets_family, .number = (family), .args = {              \
                        (type),                                                                    \
                        (protocol)                                                                 \
                }                                                                                  \
        }
#define STREAM(name_, family)    FAMILY(name_, family, SOCK_STREAM, 0)
#define DGRAM(name_, family)     FAMILY(name_, family, SOCK_DGRAM, 0)
#define RAW(name_, family)       FAMILY(name_, family, SOCK_RAW, 0)
#define NETLINK(name_, protocol) FAMILY("netlink_" name_, AF_NETLINK, SOCK_RAW, protocol)
#define CHANGE(name_, type, size)                                                                  \
        {                                                                                          \
                .name = "route_" name_, .run = sockets_route_change, .number = (type), .args = {   \
                        (size)                                                                     \
                }                                                                                  \
        }
#define NO_PATH(name_, path)                                                                       \
        { .name = "no_" name_, .run = sockets_path, .text = (path) }

static const Check checks[] = {
        FAMILY("packet_raw", AF_PACKET, SOCK_RAW, 0x300),
        FAMILY("packet_dgram", AF_PACKET, SOCK_DGRAM, 0x300),
        FAMILY("packet_with_high_bits", 1L << 32 | AF_PACKET, SOCK_RAW, 0),
        STREAM("vsock", AF_VSOCK),
        DGRAM("vsock_dgram", AF_VSOCK),
        FAMILY("alg", AF_ALG, SOCK_SEQPACKET, 0),
        FAMILY("key", AF_KEY, SOCK_RAW, 2),
        RAW("xdp", AF_XDP),
        FAMILY("tipc", AF_TIPC, SOCK_SEQPACKET, 0),
        RAW("bluetooth_hci", AF_BLUETOOTH),
        FAMILY("bluetooth_l2cap", AF_BLUETOOTH, SOCK_SEQPACKET, 0),
        FAMILY("can", AF_CAN, SOCK_RAW, 1),
        FAMILY("nfc", AF_NFC, SOCK_SEQPACKET, 0),
        FAMILY("rds", AF_RDS, SOCK_SEQPACKET, 0),
        DGRAM("rxrpc", AF_RXRPC),
        STREAM("smc", AF_SMC),
        DGRAM("kcm", AF_KCM),
        DGRAM("qipcrtr", 42),
        DGRAM("mctp", 45),
        DGRAM("llc", AF_LLC),
        DGRAM("appletalk", AF_APPLETALK),
        DGRAM("ipx", AF_IPX),
        FAMILY("x25", AF_X25, SOCK_SEQPACKET, 0),
        FAMILY("ax25", AF_AX25, SOCK_SEQPACKET, 0),
        FAMILY("netrom", AF_NETROM, SOCK_SEQPACKET, 0),
        FAMILY("rose", AF_ROSE, SOCK_SEQPACKET, 0),
        STREAM("pppox", AF_PPPOX),
        STREAM("caif", AF_CAIF),
        DGRAM("phonet", AF_PHONET),
        DGRAM("ieee802154", AF_IEEE802154),
        DGRAM("isdn", AF_ISDN),
        DGRAM("atm", AF_ATMPVC),
        {"pair_of_tipc", sockets_pair, .number = AF_TIPC, .args = {SOCK_STREAM, 0}},
        FAMILY("inet_raw", AF_INET, SOCK_RAW, IPPROTO_RAW),
        FAMILY("inet_icmp", AF_INET, SOCK_RAW, IPPROTO_ICMP),
        FAMILY("inet6_raw", AF_INET6, SOCK_RAW, IPPROTO_ICMPV6),
        {"ping", sockets_protocol, .number = AF_INET, .args = {SOCK_DGRAM, IPPROTO_ICMP}},
        /* for each of these a kernel may load a module, whoever asks */
        FAMILY("sctp", AF_INET, SOCK_SEQPACKET, 132),
        FAMILY("sctp_stream", AF_INET6, SOCK_STREAM, 132),
        FAMILY("sctp_by_type", AF_INET, SOCK_SEQPACKET, 0),
        FAMILY("dccp", AF_INET, SOCK_DCCP, 33),
        FAMILY("dccp_by_type", AF_INET6, SOCK_DCCP, 0),
        FAMILY("l2tp", AF_INET, SOCK_DGRAM, 115),
        FAMILY("udplite", AF_INET, SOCK_DGRAM, 136),
        FAMILY("smc_by_protocol", AF_INET, SOCK_STREAM, 256),

        NETLINK("usersock", 2),
        NETLINK("sock_diag", 4),
        NETLINK("nflog", 5),
        NETLINK("xfrm", 6), /* CVE-2017-16939 */
        NETLINK("selinux", 7),
        NETLINK("iscsi", 8), /* CVE-2021-27365 */
        NETLINK("audit", 9),
        NETLINK("fib_lookup", 10),
        NETLINK("connector", 11),
        NETLINK("netfilter", 12), /* CVE-2022-1015, CVE-2023-32233, CVE-2024-1086 */
        NETLINK("ip6_fw", 13),
        NETLINK("decnet", 14),
        NETLINK("uevent", 15),
        NETLINK("generic", 16),
        NETLINK("scsi", 18),
        NETLINK("ecryptfs", 19),
        NETLINK("rdma", 20),
        NETLINK("crypto", 21),
        NETLINK("smc", 22),
        FAMILY("netlink_with_high_bits", 1L << 32 | AF_NETLINK, SOCK_RAW, 1L << 32 | 12),
        {"route_link_up", sockets_route_link_up},
        CHANGE("add_link", RTM_NEWLINK, sizeof(struct ifinfomsg)),
        CHANGE("delete_link", RTM_DELLINK, sizeof(struct ifinfomsg)),
        CHANGE("add_address", RTM_NEWADDR, sizeof(struct ifaddrmsg)),
        CHANGE("add_route", RTM_NEWROUTE, sizeof(struct rtmsg)),
        CHANGE("add_rule", RTM_NEWRULE, sizeof(struct rtmsg)),
        CHANGE("add_neighbour", RTM_NEWNEIGH, sizeof(struct ndmsg)),
        CHANGE("add_qdisc", RTM_NEWQDISC, sizeof(struct tcmsg)),    /* CVE-2023-31436 */
        CHANGE("add_filter", RTM_NEWTFILTER, sizeof(struct tcmsg)), /* CVE-2022-2588 */
        CHANGE("add_namespace_id", RTM_NEWNSID, sizeof(struct rtgenmsg)),

        {"abstract_of_the_host", sockets_abstract, .needs = FACT_ABSTRACT},
        NO_PATH("docker", "/run/docker.sock"),
        NO_PATH("containerd", "/run/containerd/containerd.sock"),
        NO_PATH("systemd", "/run/systemd/private"),
        NO_PATH("dbus", "/run/dbus/system_bus_socket"),
        NO_PATH("journal", "/run/systemd/journal/stdout"),
        NO_PATH("carreld", "/run/carrel/control.sock"),
        {"forge_user", sockets_forge, .number = 0},
        {"forge_process", sockets_forge, .number = 1},
};

const Class class_sockets = CLASS("sockets", "families, netlink, names of the host", checks);
