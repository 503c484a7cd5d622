/*
 * The network: lo, nobody to reach, nothing to configure
 *
 * Source: netdevice(7), ip(7), socket(7).
 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conformance.h"

static Verdict network_only_lo(const Check *c) {
        struct if_nameindex *all = if_nameindex();
        char found[IF_NAMESIZE] = "";

        for (struct if_nameindex *i = all; i && i->if_name; i++)
                if (strcmp(i->if_name, "lo") != 0)
                        snprintf(found, sizeof found, "%s", i->if_name);
        return verdict_expect(all && !*found, "lo alone", "'%s'", found);
}

static Verdict network_lo_is_up(const Check *c) {
        struct ifreq request = {.ifr_name = "lo"};
        int fd = socket(AF_INET, SOCK_DGRAM, 0);

        (void)ioctl(fd, SIOCGIFFLAGS, &request);
        return verdict_expect(request.ifr_flags & IFF_UP, "lo that is up", "flags %#x",
                              (unsigned)request.ifr_flags);
}

static Verdict network_no_route(const Check *c) {
        char text[4096] = "";
        const char *second;

        (void)probe_read("/proc/net/route", text, sizeof text);
        second = strchr(text, '\n');
        return verdict_expect(!second || !second[1], "no route", "%s", second ? second + 1 : "");
}

/* Each line's interface stands last. */
static Verdict network_no_route6(const Check *c) {
        char text[16384] = "";
        unsigned other = 0;

        (void)probe_read("/proc/net/ipv6_route", text, sizeof text);
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
                other += strcmp(line + strlen(line) - 3, " lo") != 0;
        return verdict_expect(other == 0, "no route but lo's", "%u", other);
}

/* @text: an address, @number: port, @args: type of socket. */
static Verdict network_unreachable(const Check *c) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)c->number)};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)c->number)};
        bool is6 = strchr(c->text, ':');
        int fd =
                socket(is6 ? AF_INET6 : AF_INET, (int)c->args[0] | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int r;

        (void)inet_pton(is6 ? AF_INET6 : AF_INET, c->text,
                        is6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr);
        if (fd < 0)
                return verdict_denied("a socket", fd);
        r = connect(fd, is6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4,
                    is6 ? sizeof v6 : sizeof v4);
        /* "it takes a while" means that a packet went out */
        return verdict_denied("connecting", r < 0 && errno == EINPROGRESS ? 0 : r);
}

static Verdict network_nobody_listens(const Check *c) {
        char text[16384] = "", *line;
        unsigned n = 0;

        (void)probe_read(c->text, text, sizeof text);
        for (line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
                n += strstr(line, ": ") && !strstr(line, "local_address");
        return verdict_expect(n == 0, "no socket", "%u in %s", n, c->text);
}

static Verdict network_privileged_port(const Check *c) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return verdict_refused("port 80", bind(fd, (struct sockaddr *)&address, sizeof address));
}

/* @number: the request, of an interface that is there. */
static Verdict network_ioctl(const Check *c) {
        struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (c->number == SIOCSIFMTU)
                request.ifr_mtu = -1; /* out of range, where anybody looks */
        if (c->number == SIOCSIFNAME)
                snprintf(request.ifr_newname, IFNAMSIZ, "lo");
        return verdict_refused(c->name, ioctl(fd, (unsigned long)c->number, &request));
}

static Verdict network_add_route(const Check *c) {
        struct rtentry route = {.rt_flags = RTF_UP};
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        return verdict_refused("SIOCADDRT", ioctl(fd, SIOCADDRT, &route));
}

/* @number: level, @args: option and type of socket. */
static Verdict network_set_option(const Check *c) {
        unsigned char value[4] = {7};
        int fd = socket(AF_INET, (int)c->args[1] | SOCK_CLOEXEC, 0);

        return verdict_refused(
                c->name, setsockopt(fd, (int)c->number, (int)c->args[0], value, sizeof value));
}

/* Tables of the packet filter: refused, or not there before somebody loads a module. */
static Verdict network_set_rules(const Check *c) {
        unsigned char value[4] = {7};
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        return verdict_denied(c->name,
                              setsockopt(fd, SOL_IP, (int)c->args[0], value, sizeof value));
}

static Verdict network_get_rules(const Check *c) {
        unsigned char value[128] = {0};
        socklen_t size = 84; /* struct ipt_getinfo */
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        return verdict_denied(c->name, getsockopt(fd, SOL_IP, (int)c->args[0], value, &size));
}

#define UNREACHABLE(name_, address, port, type)                                                    \
        {                                                                                          \
                .name = "reach_" name_, .run = network_unreachable, .text = (address),             \
                .number = (port), .args = {                                                        \
                        (type)                                                                     \
                }                                                                                  \
        }
#define SETTING(name_, level, option, type)                                                        \
        {                                                                                          \
                .name = (name_), .run = network_set_option, .number = (level), .args = {           \
                        (option),                                                                  \
                        (type)                                                                     \
                }                                                                                  \
        }
#define CONFIGURE(name_, request)                                                                  \
        { .name = (name_), .run = network_ioctl, .number = (request) }

static const Check checks[] = {
        {"only_lo", network_only_lo},
        {"lo_is_up", network_lo_is_up},
        {"no_route", network_no_route},
        {"no_route_of_ipv6", network_no_route6},
        UNREACHABLE("a_host", "192.0.2.1", 80, SOCK_STREAM),
        UNREACHABLE("the_gateway", "10.0.0.1", 22, SOCK_STREAM),
        UNREACHABLE("cloud_metadata", "169.254.169.254", 80, SOCK_STREAM),
        UNREACHABLE("a_name_server", "8.8.8.8", 53, SOCK_DGRAM),
        UNREACHABLE("multicast", "224.0.0.251", 5353, SOCK_DGRAM),
        UNREACHABLE("broadcast", "255.255.255.255", 67, SOCK_DGRAM),
        UNREACHABLE("a_host_by_ipv6", "2001:db8::1", 80, SOCK_STREAM),
        UNREACHABLE("a_mapped_address", "::ffff:192.0.2.1", 80, SOCK_STREAM),
        UNREACHABLE("all_nodes", "ff02::1", 53, SOCK_DGRAM),
        {"nobody_listens", network_nobody_listens, .text = "/proc/net/tcp"},
        {"nobody_listens_by_ipv6", network_nobody_listens, .text = "/proc/net/tcp6"},
        {"nobody_receives", network_nobody_listens, .text = "/proc/net/udp"},
        {"privileged_port", network_privileged_port},
        CONFIGURE("set_flags", SIOCSIFFLAGS),
        CONFIGURE("set_address", SIOCSIFADDR),
        CONFIGURE("set_mtu", SIOCSIFMTU),
        CONFIGURE("rename", SIOCSIFNAME),
        {"add_route", network_add_route},
        SETTING("mark", SOL_SOCKET, SO_MARK, SOCK_STREAM),
        SETTING("priority", SOL_SOCKET, SO_PRIORITY, SOCK_STREAM),
        SETTING("force_buffer", SOL_SOCKET, SO_RCVBUFFORCE, SOCK_STREAM),
        SETTING("transparent", SOL_IP, IP_TRANSPARENT, SOCK_STREAM),
        SETTING("repair", IPPROTO_TCP, TCP_REPAIR, SOCK_STREAM),
        {"replace_filter_rules", network_set_rules,
         .args = {64 /* IPT_SO_SET_REPLACE: CVE-2021-22555 */}},
        {"replace_arp_rules", network_set_rules, .args = {96 /* ARPT_SO_SET_REPLACE */}},
        {"read_filter_rules", network_get_rules, .args = {64 /* IPT_SO_GET_INFO */}},
};

const Class class_network = CLASS("network", "lo, and nobody to reach", checks);
