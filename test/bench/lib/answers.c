/*
 * answers.c
 *		A server for test/bench/gateway: gives each chat completion the same small answer, so many microseconds after it came.
 *
 * Usage: answers DELAY_US [FILE].  Prints its port, then serves until its input ends; the first request is written into FILE.
 * Whenever a line comes in, it prints the most connections that were open at a time, and how many chats it has answered.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 4096
#define REQUEST		65536

#define BODY                                                                                       \
	"{\"id\":\"1\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"finish_reason\":\"stop\","  \
	"\"message\":{\"role\":\"assistant\",\"content\":\"A fixed answer.\"}}],"                          \
	"\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}"
#define MODELS "{\"object\":\"list\",\"data\":[{\"id\":\"fixed\",\"object\":\"model\"}]}"

typedef struct Connection
{
	int size;
	unsigned serial; /* of the connection that has the descriptor now */
	char bytes[REQUEST];
} Connection;

typedef struct Due
{
	int fd;
	unsigned serial;
	int64_t at; /* microseconds */
} Due;

static Connection *connections[CONNECTIONS];
static Due queue[CONNECTIONS * 4];
static unsigned first, last; /* of the queue */
static int open_now, open_most;
static long answered;
static int64_t delay_us;
static int epoll_fd, timer_fd;
static const char *record;

static int64_t
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static void
watch(int fd)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
		fail("epoll_ctl");
}

static void
send_answer(int fd, const char *body)
{
	char answer[1024];
	int n = snprintf(answer, sizeof(answer),
					 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
					 strlen(body), body);

	if (write(fd, answer, n) != n && errno != EPIPE && errno != ECONNRESET)
		fail("write");
}

static void
arm_timer(void)
{
	struct itimerspec at = {0};

	if (first != last)
	{
		int64_t us = queue[first % (CONNECTIONS * 4)].at;

		at.it_value.tv_sec = us / 1000000;
		at.it_value.tv_nsec = us % 1000000 * 1000;
	}
	timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void
send_due(void)
{
	uint64_t rings;

	if (read(timer_fd, &rings, sizeof(rings)) < 0 && errno != EAGAIN)
		fail("timerfd");
	while (first != last && queue[first % (CONNECTIONS * 4)].at <= now_us())
	{
		Due due = queue[first++ % (CONNECTIONS * 4)];

		if (connections[due.fd] != NULL && connections[due.fd]->serial == due.serial)
			send_answer(due.fd, BODY);
	}
	arm_timer();
}

static void
write_record(const char *bytes, int n)
{
	FILE *file = record != NULL ? fopen(record, "w") : NULL;

	if (file != NULL && (fwrite(bytes, 1, n, file) != (size_t) n || fclose(file) != 0))
		fail("record");
	record = NULL;
}

static void
take_request(int fd, const char *bytes, int n)
{
	if (strncmp(bytes, "POST", 4) != 0)
	{
		send_answer(fd, MODELS);
		return;
	}
	write_record(bytes, n);
	answered++;
	if (delay_us == 0)
	{
		send_answer(fd, BODY);
		return;
	}
	queue[last++ % (CONNECTIONS * 4)] = (Due){fd, connections[fd]->serial, now_us() + delay_us};
	if (last - first == 1)
		arm_timer();
}

/* The length of the request that the bytes begin with; 0 = it is not whole. */
static int
request_length(const char *bytes, int size)
{
	const char *end = memmem(bytes, size, "\r\n\r\n", 4);
	const char *header = end != NULL ? strcasestr(bytes, "\ncontent-length:") : NULL;
	int length;

	if (end == NULL)
		return 0;
	length = (int) (end + 4 - bytes);
	if (header != NULL && header < end)
		length += (int) strtol(header + 16, NULL, 10);
	return length <= size ? length : 0;
}

static void
close_connection(int fd)
{
	free(connections[fd]);
	connections[fd] = NULL;
	close(fd);
	open_now--;
}

static void
read_connection(int fd)
{
	Connection *connection = connections[fd];
	int n = (int) read(fd, connection->bytes + connection->size, REQUEST - 1 - connection->size);
	int length;

	if (n <= 0)
	{
		close_connection(fd);
		return;
	}
	connection->size += n;
	connection->bytes[connection->size] = '\0';
	while ((length = request_length(connection->bytes, connection->size)) > 0)
	{
		take_request(fd, connection->bytes, length);
		connection->size -= length;
		memmove(connection->bytes, connection->bytes + length, connection->size + 1);
	}
}

static void
accept_connection(int listener)
{
	static unsigned serial;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	int on = 1;

	if (fd < 0 || fd >= CONNECTIONS)
		fail("accept");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	connections[fd] = calloc(1, sizeof(Connection));
	connections[fd]->serial = ++serial;
	if (++open_now > open_most)
		open_most = open_now;
	watch(fd);
}

static void
answer_question(void)
{
	char line[16];

	if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
		exit(0);
	printf("%d %ld\n", open_most, answered);
	fflush(stdout);
}

static int
listen_anywhere(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 || listen(fd, 1024) != 0 ||
		getsockname(fd, (struct sockaddr *) &address, &length) != 0)
		fail("listen");
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

int
main(int argc, char **argv)
{
	int listener = listen_anywhere();

	delay_us = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
	record = argc > 2 ? argv[2] : NULL;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	watch(listener);
	watch(timer_fd);
	watch(STDIN_FILENO);
	while (1)
	{
		struct epoll_event events[64];
		int n = epoll_wait(epoll_fd, events, 64, -1);

		for (int i = 0; i < n; i++)
		{
			int fd = events[i].data.fd;

			if (fd == listener)
				accept_connection(fd);
			else if (fd == timer_fd)
				send_due();
			else if (fd == STDIN_FILENO)
				answer_question();
			else
				read_connection(fd);
		}
	}
}
