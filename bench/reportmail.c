// SPDX-License-Identifier: Apache-2.0
//
// The least that can stand in for sendmail(1): a message from standard input, with `-t`, goes to the
// SMTP server on 127.0.0.1:25, and every address of its To header is a recipient. The peer starts a
// program for each report; this one adds as little to that as a program can.

#include "common.h"

enum { MAX_MESSAGE = 4 << 20, REPLY_BYTES = 4096 };

static char message[MAX_MESSAGE];

static void expect(int fd, char code) {
    char reply[REPLY_BYTES];
    size_t length = 0;
    for (;;) {
        ssize_t got = read(fd, reply + length, sizeof reply - 1 - length);
        if (got <= 0) die("the server hung up");
        reply[length += (size_t)got] = 0;
        char *last = reply;
        for (char *at = reply; (at = strchr(at, '\n')) && at[1]; at++) last = at + 1;
        if (reply[length - 1] == '\n' && last[3] == ' ') {
            if (last[0] != code) die("the server said %s", last);
            return;
        }
        if (length == sizeof reply - 1) die("the reply is too long");
    }
}

static void say(int fd, const void *data, size_t size) {
    for (const char *at = data; size;) {
        ssize_t sent = write(fd, at, size);
        if (sent <= 0) die("the connection broke: %s", strerror(errno));
        at += sent, size -= (size_t)sent;
    }
}

int main(void) {
    size_t size = 0;
    for (ssize_t got; (got = read(0, message + size, sizeof message - 1 - size)) > 0;) size += (size_t)got;
    message[size] = 0;
    const char *to = strstr(message, "\nTo: ");
    if (!to) die("no To header");
    char command[1024];
    int fd = connect_to("inet:127.0.0.1:25");
    expect(fd, '2');
    say(fd, "HELO localhost\r\n", 16);
    expect(fd, '2');
    say(fd, "MAIL FROM:<>\r\n", 14);
    expect(fd, '2');
    size_t length = strcspn(to + 5, "\r\n");
    int written = snprintf(command, sizeof command, "RCPT TO:<%.*s>\r\n", (int)length, to + 5);
    say(fd, command, (size_t)written);
    expect(fd, '2');
    say(fd, "DATA\r\n", 6);
    expect(fd, '3');
    for (const char *line = message; *line;) {
        if (*line == '.') say(fd, ".", 1);
        const char *end = strstr(line, "\n.");
        size_t part = end ? (size_t)(end + 1 - line) : strlen(line);
        say(fd, line, part);
        line += part;
    }
    say(fd, ".\r\n", 3);
    expect(fd, '2');
    say(fd, "QUIT\r\n", 6);
    return 0;
}
