// SPDX-FileCopyrightText: Copyright (c) 2026 The nixl_md authors
// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CSystem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

bool csystem_is_ipv4(const char *text) {
    struct in_addr address;
    return inet_pton(AF_INET, text, &address) == 1;
}

bool csystem_is_ipv6(const char *text) {
    struct in6_addr address;
    return inet_pton(AF_INET6, text, &address) == 1;
}

const char *csystem_address(const csystem_resolution *result, uint32_t index) {
    return result->addresses[index];
}

static bool holds(const csystem_resolution *result, const char *address) {
    for (uint32_t i = 0; i < result->count; i++) {
        if (strcmp(result->addresses[i], address) == 0) {
            return true;
        }
    }
    return false;
}

static void add(csystem_resolution *result, const struct sockaddr *address) {
    const void *bytes;
    if (address->sa_family == AF_INET) {
        bytes = &((const struct sockaddr_in *)address)->sin_addr;
    } else if (address->sa_family == AF_INET6) {
        bytes = &((const struct sockaddr_in6 *)address)->sin6_addr;
    } else {
        return;
    }
    char text[CSYSTEM_ADDRESS_SIZE];
    if (!inet_ntop(address->sa_family, bytes, text, sizeof text) || holds(result, text)) {
        return;
    }
    memcpy(result->addresses[result->count], text, sizeof text);
    result->count++;
}

void csystem_resolve(const char *host, csystem_resolution *result) {
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    result->count = 0;
    result->error = getaddrinfo(host, NULL, &hints, &found);
    if (result->error != 0) {
        return;
    }
    for (const struct addrinfo *i = found; i && result->count < CSYSTEM_ADDRESSES_MAX;
         i = i->ai_next) {
        add(result, i->ai_addr);
    }
    freeaddrinfo(found);
    if (result->count == 0) {
        result->error = EAI_NONAME;
    }
}

const char *csystem_resolve_error_text(int error) {
    return error == 0 ? "" : gai_strerror(error);
}

// ---- The mailbox. It lives until its owner and the last thread have let go of it.

typedef struct letter {
    struct letter *next;
    csystem_resolution result;
} letter;

struct csystem_mailbox {
    pthread_mutex_t lock;
    int users;
    bool is_closed;
    int signal;
    letter *first;
    letter **end;
};

typedef struct {
    csystem_mailbox *mailbox;
    letter *letter;
    char host[];
} question;

csystem_mailbox *csystem_mailbox_new(int *error) {
    csystem_mailbox *mailbox = calloc(1, sizeof *mailbox);
    if (!mailbox) {
        *error = ENOMEM;
        return NULL;
    }
    mailbox->signal = csystem_signal_open();
    if (mailbox->signal < 0) {
        *error = -mailbox->signal;
        free(mailbox);
        return NULL;
    }
    pthread_mutex_init(&mailbox->lock, NULL);
    mailbox->users = 1;
    mailbox->end = &mailbox->first;
    return mailbox;
}

int csystem_mailbox_descriptor(const csystem_mailbox *mailbox) {
    return mailbox->signal;
}

// Gives up one use; takes the lock, which the caller holds, with it.
static void release_locked(csystem_mailbox *mailbox) {
    int left = --mailbox->users;
    pthread_mutex_unlock(&mailbox->lock);
    if (left > 0) {
        return;
    }
    for (letter *next, *i = mailbox->first; i; i = next) {
        next = i->next;
        free(i);
    }
    pthread_mutex_destroy(&mailbox->lock);
    free(mailbox);
}

static void *answer(void *argument) {
    question *asked = argument;
    csystem_mailbox *mailbox = asked->mailbox;
    letter *found = asked->letter;
    csystem_resolve(asked->host, &found->result);
    free(asked);
    pthread_mutex_lock(&mailbox->lock);
    *mailbox->end = found;
    mailbox->end = &found->next;
    if (!mailbox->is_closed) {
        csystem_signal_set(mailbox->signal);
    }
    release_locked(mailbox);
    return NULL;
}

static int start_detached(question *asked) {
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error != 0) {
        return error;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    // A thread starts with the signal mask of its creator: the host's handlers must not run on it.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    error = pthread_create(&thread, &attributes, answer, asked);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

int csystem_mailbox_ask(csystem_mailbox *mailbox, const char *host, uint32_t tag) {
    size_t size = strlen(host) + 1;
    question *asked = malloc(sizeof *asked + size);
    letter *empty = calloc(1, sizeof *empty);
    if (!asked || !empty) {
        free(asked);
        free(empty);
        return ENOMEM;
    }
    empty->result.tag = tag;
    asked->mailbox = mailbox;
    asked->letter = empty;
    memcpy(asked->host, host, size);
    pthread_mutex_lock(&mailbox->lock);
    mailbox->users++;
    pthread_mutex_unlock(&mailbox->lock);
    int error = start_detached(asked);
    if (error != 0) {
        pthread_mutex_lock(&mailbox->lock);
        release_locked(mailbox);
        free(asked);
        free(empty);
    }
    return error;
}

bool csystem_mailbox_take(csystem_mailbox *mailbox, csystem_resolution *result) {
    pthread_mutex_lock(&mailbox->lock);
    letter *taken = mailbox->first;
    if (taken) {
        mailbox->first = taken->next;
        if (!mailbox->first) {
            mailbox->end = &mailbox->first;
            csystem_signal_clear(mailbox->signal);
        }
    }
    pthread_mutex_unlock(&mailbox->lock);
    if (!taken) {
        return false;
    }
    *result = taken->result;
    free(taken);
    return true;
}

void csystem_mailbox_close(csystem_mailbox *mailbox) {
    pthread_mutex_lock(&mailbox->lock);
    mailbox->is_closed = true;
    csystem_close(mailbox->signal);
    release_locked(mailbox);
}

void csystem_mailbox_close_after_fork(csystem_mailbox *mailbox) {
    csystem_close(mailbox->signal);
}
