// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CSystem.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(csystem_part) == sizeof(struct iovec) &&
                   offsetof(csystem_part, bytes) == offsetof(struct iovec, iov_base) &&
                   offsetof(csystem_part, count) == offsetof(struct iovec, iov_len),
               "csystem_part is struct iovec");

int64_t csystem_socket_receive(int socket, void *buffer, size_t size) {
    const ssize_t count = syscall(SYS_recvfrom, socket, buffer, size, MSG_DONTWAIT, NULL, NULL);
    return count < 0 ? -errno : count;
}

int64_t csystem_socket_send(int socket, const csystem_part *parts, size_t count) {
    const struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts,
                                   .msg_iovlen = count};
    const ssize_t sent = syscall(SYS_sendmsg, socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? -errno : sent;
}

bool csystem_is_again(int64_t result) {
    return result == -EAGAIN || result == -EWOULDBLOCK || result == -EINTR;
}

bool csystem_is_path_dead(int socket) {
    struct tcp_info info;
    socklen_t size = sizeof info;
    if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
    return info.tcpi_state == TCP_SYN_SENT ||
           (info.tcpi_unacked > 0 && info.tcpi_last_ack_recv >= 1000);
}

void csystem_socket_sever(int severed) {
    const int unconnected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (unconnected < 0) return;
    dup3(unconnected, severed, O_CLOEXEC);
    close(unconnected);
}
