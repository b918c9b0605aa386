/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _PORTCULLIS_TEST_H
#define _PORTCULLIS_TEST_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../portcullis.h"

/* Says what went wrong, and ends the program with 1. */
#define die(format, ...) do {						\
		printf("FAIL %s:%d: " format "\n", __FILE__, __LINE__,	\
		       ##__VA_ARGS__);					\
		exit(1);						\
	} while (0)

/* @call fails with @error, or succeeds if that is 0. */
#define expect(call, error) do {					\
		int e_ = (call) == -1 ? errno : 0;			\
									\
		if (e_ != (error))					\
			die("%s: %s instead of %s", #call,		\
			    strerror(e_), strerror(error));		\
	} while (0)

/* test.c */
int open_node(const char *name, int flags);
struct portcullis_info node_info(int fd);
int set_fd(int fd, uint32_t kind, uint32_t transport, uint32_t queue, int to);
int reg_get(int fd, uint32_t transport, uint32_t reg, uint64_t *value);
int new_eventfd(void);
uint64_t signals(int fd, int milliseconds);
void attach(int fd);

void limits(const char *name);
void lives(const char *name);
void serve(const char *name);
void churn(const char *name, unsigned int rounds);
void flood(const char *name);
void hostile(const char *name, unsigned int seconds);

#endif /* _PORTCULLIS_TEST_H */
