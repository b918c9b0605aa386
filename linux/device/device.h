/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef _PORTCULLIS_DEVICE_H
#define _PORTCULLIS_DEVICE_H

#include <linux/bits.h>
#include <linux/errno.h>
#include <linux/eventfd.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/types.h>
#include <linux/version.h>
#include <linux/wait.h>

#include "portcullis.h"

/*
 * The control page of a peer: docs/devices.md, "What a server sees". EL2 writes
 * it, the last word of an event with release semantics, and no other party can.
 */
#define CONTROL_MAGIC		0x000
#define CONTROL_MAGIC_VALUE	0x31445650 /* "PVD1" */
#define CONTROL_VERSION		0x004
#define CONTROL_LIFE		0x008
#define CONTROL_RAM_SIZE	0x010
#define CONTROL_VCPUS		0x018
#define CONTROL_DEVICES		0x01c
#define CONTROL_WINDOW		0x020
#define CONTROL_RAM_BASE	0x028
#define CONTROL_BELL(n)		(0x080 + (n) * 4)
#define CONTROL_EVENT(d)	(0x100 + (d) * 4)
#define CONTROL_SLOT(v)		(0x200 + (v) * 0x40)
#define CONTROL_NOTIFY(d, q)	(0x400 + (d) * 0x40 + (q) * 4)
#define SLOT_SEQ		0x00
#define SLOT_IPA		0x08
#define SLOT_VALUE		0x10
#define SLOT_KIND		0x18

/* EL2's granule, whatever the size of this kernel's pages. */
#define GRANULE			4096

/**
 * struct watch - a word of the control page and the eventfd for its changes
 * @ctx:	signalled at a change; NULL: it is not watched
 * @seen:	the word as last seen
 */
struct watch {
	struct eventfd_ctx	*ctx;
	u32			seen;
};

/**
 * struct transport - what one transport signals
 * @event:	its event word
 * @queue:	the notification word of each queue
 * @queues:	bit n: somebody asks for queue n
 */
struct transport {
	struct watch	event;
	struct watch	queue[PORTCULLIS_QUEUES];
	unsigned long	queues;
};

/**
 * struct peer - a VM that this one serves
 * @misc:	its node in /dev/portcullis
 * @node:	name of the node, "portcullis!NAME"
 * @name:	name of the peer
 * @number:	its number in EL2's calls
 * @irq:	EL2's interrupt for it
 * @control:	its control page
 * @images:	a page of configuration space for each transport
 * @window:	where its RAM begins in this VM's address space
 * @ram_base:	where its RAM begins in its own address space
 * @ram_size:	bytes of its RAM
 * @vcpus:	how many vCPUs it has
 * @transports:	how many transports it has
 * @device_id:	virtio's DeviceID of each
 * @open:	bit 0: the node is open
 * @mutex:	one attaches, detaches or changes eventfds at a time
 * @calls:	eventfds that raise interrupts, under @mutex
 * @ncalls:	how many of them
 * @lock:	for all that follows; the interrupt handler takes it
 * @closing:	the driver goes: the interrupt is masked no more
 * @attached:	this VM serves it, in @life
 * @life:	the life that was attached to
 * @life_seen:	the life as last seen
 * @running:	it was seen running in @life_seen
 * @life_ctx:	signalled when @life_seen or @running change
 * @transport:	what its transports signal
 * @bell:	the word of each doorbell
 * @bells:	bit n: doorbell n is set
 * @slot_seen:	number of each vCPU's access as last seen
 * @slot_taken:	number of the access that NEXT handed out last
 * @slot_last:	the vCPU whose access that was
 * @wait:	for accesses and for another life
 * @period:	the jiffy in which interrupts are counted
 * @interrupts:	how many there were in it
 * @pauses:	how often it came too often
 * @unmask:	ends the pause of an interrupt that came too often
 */
struct peer {
	struct miscdevice	misc;
	char			node[16 + PORTCULLIS_NAME];
	const char		*name;
	u32			number;
	int			irq;
	void			*control;
	void			*images;
	phys_addr_t		window;
	u64			ram_base;
	u64			ram_size;
	u32			vcpus;
	u32			transports;
	u32			device_id[PORTCULLIS_TRANSPORTS];
	unsigned long		open;

	struct mutex		mutex;
	struct list_head	calls;
	unsigned int		ncalls;

	spinlock_t		lock;
	bool			closing;
	bool			attached;
	u64			life;
	u64			life_seen;
	bool			running;
	struct eventfd_ctx	*life_ctx;
	struct transport	transport[PORTCULLIS_TRANSPORTS];
	struct watch		bell[PORTCULLIS_BELLS];
	unsigned long		bells;
	u64			slot_seen[PORTCULLIS_VCPUS];
	u64			slot_taken[PORTCULLIS_VCPUS];
	unsigned int		slot_last;
	wait_queue_head_t	wait;
	unsigned long		period;
	unsigned int		interrupts;
	unsigned long		pauses;
	struct timer_list	unmask;
};

/* A u32 of the control page, before anything that EL2 wrote after it. */
static inline u32 control_u32(const struct peer *peer, unsigned int offset)
{
	return smp_load_acquire((u32 *)(peer->control + offset));
}

/* The same of a u64. */
static inline u64 control_u64(const struct peer *peer, unsigned int offset)
{
	return smp_load_acquire((u64 *)(peer->control + offset));
}

/* The peer's life is another than the one that was attached to. */
static inline bool peer_is_gone(const struct peer *peer)
{
	return READ_ONCE(peer->attached) &&
	       control_u64(peer, CONTROL_LIFE) != READ_ONCE(peer->life);
}

/**
 * peer_error() - why EL2 has refused a call about a peer
 * @peer: the peer
 *
 * EL2 has one code for everything.
 *
 * Return: -ENOTCONN, -ESTALE, or -EINVAL
 */
static inline int peer_error(const struct peer *peer)
{
	if (!READ_ONCE(peer->attached))
		return -ENOTCONN;
	return peer_is_gone(peer) ? -ESTALE : -EINVAL;
}

/* chardev.c */
int peer_register(struct peer *peer, struct device *parent);
void peer_unregister(struct peer *peer);

/* events.c */
void peer_look(struct peer *peer);
int peer_set_fd(struct peer *peer, const struct portcullis_fd *arg);
int peer_set_bell(struct peer *peer, const struct portcullis_bell *arg);
void peer_forget_fds(struct peer *peer);
void peer_forget_life(struct peer *peer);

/* access.c */
bool peer_access_waits(struct peer *peer);
void peer_access_begin(struct peer *peer);
void peer_put_back(struct peer *peer, const struct portcullis_access *access);
int peer_next(struct peer *peer, struct portcullis_access *access, bool block);

/* session.c */
int peer_attach(struct peer *peer, u64 life);
int peer_detach(struct peer *peer);

#endif /* _PORTCULLIS_DEVICE_H */
