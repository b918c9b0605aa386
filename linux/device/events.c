// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the control page tells, and the eventfds for it; and the eventfds that
 * raise interrupts of the peer.
 */

#include <linux/file.h>
#include <linux/poll.h>
#include <linux/slab.h>

#include "device.h"
#include "hypercall.h"

/* Most eventfds that raise interrupts of one peer: some for each queue. */
#define MOST_CALLS	(PORTCULLIS_TRANSPORTS * PORTCULLIS_QUEUES * 2)

/**
 * struct call - an eventfd that raises an interrupt
 * @list:	with the others of the peer
 * @file:	held, so that it never goes away below @wait
 * @ctx:	its eventfd
 * @queue:	where @wait is
 * @wait:	called when somebody signals it
 * @table:	tells @queue
 * @target:	the transport, as EL2's calls name it
 * @transport:	its number
 * @bits:	bits of InterruptStatus
 */
struct call {
	struct list_head	list;
	struct file		*file;
	struct eventfd_ctx	*ctx;
	wait_queue_head_t	*queue;
	wait_queue_entry_t	wait;
	poll_table		table;
	u64			target;
	u32			transport;
	u32			bits;
};

static void signal_eventfd(struct eventfd_ctx *ctx)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
	eventfd_signal(ctx, 1);
#else
	eventfd_signal(ctx);
#endif
}

/* Under the peer's lock. */
static void look_at(struct peer *peer, struct watch *watch, unsigned int word)
{
	u32 now = control_u32(peer, word);

	if (now == watch->seen)
		return;
	watch->seen = now;
	signal_eventfd(watch->ctx);
}

/* Whether there is a new access. Under the peer's lock. */
static bool look_at_slots(struct peer *peer)
{
	bool changed = false;
	unsigned int v;
	u64 number;

	for (v = 0; v < peer->vcpus; v++) {
		number = control_u64(peer, CONTROL_SLOT(v) + SLOT_SEQ);
		changed |= number != peer->slot_seen[v];
		peer->slot_seen[v] = number;
	}
	return changed;
}

/*
 * Whether the peer has started or stopped. A stop changes its life; of a start
 * there is only the interrupt, so EL2 is asked while the peer does not run.
 * Under the peer's lock.
 */
static bool look_at_life(struct peer *peer)
{
	u64 life = control_u64(peer, CONTROL_LIFE);
	struct portcullis_peer_info info;
	bool stopped = life != peer->life_seen;
	bool running;

	if (!stopped && peer->running)
		return false;
	peer->life_seen = life;
	running = !portcullis_peer_info(peer->number, &info) &&
		  info.state & PEER_INFO_RUNNING;
	if (!stopped && !running)
		return false;
	peer->running = running;
	if (peer->life_ctx)
		signal_eventfd(peer->life_ctx);
	return true;
}

/**
 * peer_look() - see what has changed in a peer's control page
 * @peer: the peer
 *
 * Signals the eventfds of what has changed, and wakes those who wait. The work
 * is bounded by the size of the page. Called from the interrupt's handler, and
 * whenever an interrupt may have been lost.
 */
void peer_look(struct peer *peer)
{
	struct transport *transport;
	unsigned long flags;
	unsigned int d, n;
	__poll_t woken = 0;

	spin_lock_irqsave(&peer->lock, flags);
	for (d = 0; d < peer->transports; d++) {
		transport = &peer->transport[d];
		for_each_set_bit(n, &transport->queues, PORTCULLIS_QUEUES)
			look_at(peer, &transport->queue[n],
				CONTROL_NOTIFY(d, n));
		if (transport->event.ctx)
			look_at(peer, &transport->event, CONTROL_EVENT(d));
	}
	for_each_set_bit(n, &peer->bells, PORTCULLIS_BELLS)
		look_at(peer, &peer->bell[n], CONTROL_BELL(n));
	if (look_at_slots(peer))
		woken |= EPOLLIN | EPOLLRDNORM;
	if (look_at_life(peer))
		woken |= EPOLLHUP;
	spin_unlock_irqrestore(&peer->lock, flags);

	if (woken)
		wake_up_poll(&peer->wait, woken);
}

/*
 * Puts @ctx, or NULL, into @watch of @word, which counts from now on. @mask, if
 * not NULL, is the bit map in which bit @n says that there is one.
 */
static void set_watch(struct peer *peer, struct watch *watch, unsigned int word,
		      unsigned long *mask, unsigned int n,
		      struct eventfd_ctx *ctx)
{
	struct eventfd_ctx *old;
	unsigned long flags;

	spin_lock_irqsave(&peer->lock, flags);
	old = watch->ctx;
	watch->ctx = ctx;
	watch->seen = control_u32(peer, word);
	if (mask)
		__assign_bit(n, mask, ctx);
	spin_unlock_irqrestore(&peer->lock, flags);
	if (old)
		eventfd_ctx_put(old);
}

static void set_life(struct peer *peer, struct eventfd_ctx *ctx)
{
	struct eventfd_ctx *old;
	unsigned long flags;

	spin_lock_irqsave(&peer->lock, flags);
	old = peer->life_ctx;
	peer->life_ctx = ctx;
	spin_unlock_irqrestore(&peer->lock, flags);
	if (old)
		eventfd_ctx_put(old);
}

static void raise(const struct call *call)
{
	/* There is no use for an error: the peer is gone, or soon will be. */
	portcullis_call(PORTCULLIS_IRQ_FUNC, call->target,
			PORTCULLIS_IRQ_STATUS, call->bits, 0);
}

/*
 * Somebody has signalled the eventfd. Called under the lock of its wait queue,
 * in whatever context that was.
 */
static int call_wake(wait_queue_entry_t *wait, unsigned int mode, int sync,
		     void *key)
{
	struct call *call = container_of(wait, struct call, wait);
	u64 count;

	if (key_to_poll(key) & EPOLLIN) {
		eventfd_ctx_do_read(call->ctx, &count);
		raise(call);
	}
	return 0;
}

static void call_queue(struct file *file, wait_queue_head_t *queue,
		       poll_table *table)
{
	struct call *call = container_of(table, struct call, table);

	call->queue = queue;
	add_wait_queue(queue, &call->wait);
}

static void remove_call(struct peer *peer, struct call *call)
{
	list_del(&call->list);
	peer->ncalls--;
	/* From here on call_wake() neither runs nor will. */
	remove_wait_queue(call->queue, &call->wait);
	eventfd_ctx_put(call->ctx);
	fput(call->file);
	kfree(call);
}

/*
 * The file is held, not only its eventfd: so it cannot be closed below the
 * entry in its wait queue, and no EPOLLHUP has to be handled there.
 */
static int add_call(struct peer *peer, u32 transport, u32 bits, int fd)
{
	struct call *call;
	struct file *file;
	u64 count;
	int err;

	file = eventfd_fget(fd);
	if (IS_ERR(file))
		return PTR_ERR(file);
	err = 0;
	list_for_each_entry(call, &peer->calls, list)
		if (call->file == file && call->transport == transport &&
		    call->bits == bits)
			goto put_file;
	err = -ENOSPC;
	if (peer->ncalls == MOST_CALLS)
		goto put_file;
	err = -ENOMEM;
	call = kzalloc(sizeof(*call), GFP_KERNEL_ACCOUNT);
	if (!call)
		goto put_file;
	call->file = file;
	call->transport = transport;
	call->bits = bits;
	call->target = portcullis_target(peer->number, transport);
	call->ctx = eventfd_ctx_fileget(file);
	if (IS_ERR(call->ctx)) {
		err = PTR_ERR(call->ctx);
		goto free_call;
	}
	init_waitqueue_func_entry(&call->wait, call_wake);
	init_poll_funcptr(&call->table, call_queue);
	vfs_poll(file, &call->table);
	err = -EINVAL;
	if (!call->queue)
		goto put_ctx;
	list_add(&call->list, &peer->calls);
	peer->ncalls++;

	/* It may have been signalled before. */
	spin_lock_irq(&call->queue->lock);
	eventfd_ctx_do_read(call->ctx, &count);
	spin_unlock_irq(&call->queue->lock);
	if (count)
		raise(call);
	return 0;

put_ctx:
	eventfd_ctx_put(call->ctx);
free_call:
	kfree(call);
put_file:
	fput(file);
	return err;
}

static int set_call(struct peer *peer, const struct portcullis_fd *arg)
{
	struct call *call, *next;

	if (!arg->queue || arg->queue & ~PORTCULLIS_INTERRUPT_BITS)
		return -EINVAL;
	if (arg->fd >= 0)
		return add_call(peer, arg->transport, arg->queue, arg->fd);
	list_for_each_entry_safe(call, next, &peer->calls, list)
		if (call->transport == arg->transport &&
		    call->bits == arg->queue)
			remove_call(peer, call);
	return 0;
}

/* The eventfd @fd, or NULL for -1. */
static struct eventfd_ctx *eventfd_or_none(int fd)
{
	if (fd < -1)
		return ERR_PTR(-EINVAL);
	return fd == -1 ? NULL : eventfd_ctx_fdget(fd);
}

/**
 * peer_set_fd() - SET_FD
 * @peer: the peer
 * @arg: the argument
 *
 * Called under the peer's mutex.
 *
 * Return: 0, or an error
 */
int peer_set_fd(struct peer *peer, const struct portcullis_fd *arg)
{
	struct transport *transport = NULL;
	struct eventfd_ctx *ctx;

	lockdep_assert_held(&peer->mutex);
	if (arg->fd < -1)
		return -EINVAL;
	if (arg->kind != PORTCULLIS_FD_LIFE) {
		if (arg->transport >= peer->transports)
			return -EINVAL;
		if (!peer->attached || peer_is_gone(peer))
			return peer_error(peer);
		transport = &peer->transport[arg->transport];
	}

	switch (arg->kind) {
	case PORTCULLIS_FD_QUEUE:
		if (arg->queue >= PORTCULLIS_QUEUES)
			return -EINVAL;
		break;
	case PORTCULLIS_FD_EVENT:
		if (arg->queue)
			return -EINVAL;
		break;
	case PORTCULLIS_FD_LIFE:
		if (arg->queue || arg->transport)
			return -EINVAL;
		break;
	case PORTCULLIS_FD_CALL:
		return set_call(peer, arg);
	default:
		return -EINVAL;
	}

	ctx = eventfd_or_none(arg->fd);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	switch (arg->kind) {
	case PORTCULLIS_FD_QUEUE:
		set_watch(peer, &transport->queue[arg->queue],
			  CONTROL_NOTIFY(arg->transport, arg->queue),
			  &transport->queues, arg->queue, ctx);
		break;
	case PORTCULLIS_FD_EVENT:
		set_watch(peer, &transport->event,
			  CONTROL_EVENT(arg->transport), NULL, 0, ctx);
		break;
	default:
		set_life(peer, ctx);
		break;
	}
	return 0;
}

/**
 * peer_set_bell() - DOORBELL
 * @peer: the peer
 * @arg: the argument
 *
 * Called under the peer's mutex.
 *
 * Return: 0, or an error
 */
int peer_set_bell(struct peer *peer, const struct portcullis_bell *arg)
{
	struct eventfd_ctx *ctx;
	u64 target, kind = 0;

	lockdep_assert_held(&peer->mutex);
	if (arg->number >= PORTCULLIS_BELLS || arg->match > 1)
		return -EINVAL;
	if (!arg->match && arg->value)
		return -EINVAL;
	if (arg->fd != -1) {
		if (arg->size > 8 || !is_power_of_2(arg->size))
			return -EINVAL;
		if (arg->size < 8 && arg->value >> (arg->size * 8))
			return -EINVAL;
		kind = arg->size | (arg->match ? PORTCULLIS_BELL_MATCH : 0);
	}
	if (!peer->attached)
		return -ENOTCONN;

	ctx = eventfd_or_none(arg->fd);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	target = portcullis_target(peer->number, arg->number);
	if (portcullis_call(PORTCULLIS_DOORBELL_FUNC, target,
			    ctx ? arg->ipa : 0, kind, arg->value)) {
		if (ctx)
			eventfd_ctx_put(ctx);
		return peer_error(peer);
	}
	set_watch(peer, &peer->bell[arg->number], CONTROL_BELL(arg->number),
		  &peer->bells, arg->number, ctx);
	return 0;
}

/**
 * peer_forget_fds() - remove all eventfds but that of the peer's life
 * @peer: the peer
 *
 * Called under the peer's mutex.
 */
void peer_forget_fds(struct peer *peer)
{
	struct transport *transport;
	struct call *call, *next;
	unsigned int d, n;

	lockdep_assert_held(&peer->mutex);
	list_for_each_entry_safe(call, next, &peer->calls, list)
		remove_call(peer, call);
	for (d = 0; d < peer->transports; d++) {
		transport = &peer->transport[d];
		set_watch(peer, &transport->event, CONTROL_EVENT(d), NULL, 0,
			  NULL);
		for (n = 0; n < PORTCULLIS_QUEUES; n++)
			set_watch(peer, &transport->queue[n],
				  CONTROL_NOTIFY(d, n), &transport->queues, n,
				  NULL);
	}
	for (n = 0; n < PORTCULLIS_BELLS; n++)
		set_watch(peer, &peer->bell[n], CONTROL_BELL(n), &peer->bells,
			  n, NULL);
}

/**
 * peer_forget_life() - remove the eventfd of the peer's life
 * @peer: the peer
 */
void peer_forget_life(struct peer *peer)
{
	set_life(peer, NULL);
}
