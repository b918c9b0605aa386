/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * /dev/portcullis/NAME: a VM that this one serves, its peer.
 *
 * open() is exclusive (EBUSY). close() detaches and undoes everything that was
 * done through the descriptor; it does so when the last copy of the descriptor
 * and the last mapping are gone. mmap() from offset 0 to ram_size is the window:
 * the byte at offset n is the byte of the peer's RAM at ram_base + n, if the
 * peer shares it, and a byte of a scratch page otherwise. The mapping is
 * write-back cached and must be MAP_SHARED. lseek() with SEEK_END answers
 * ram_size.
 *
 * poll() reports EPOLLIN if an access waits for PORTCULLIS_NEXT, and EPOLLHUP
 * if the life of the peer is no longer that of PORTCULLIS_ATTACH.
 *
 * Errors of every request: ENOTCONN if it needs an attachment and there is
 * none, ESTALE if the peer has begun another life, EINVAL if an argument is
 * wrong or not valid now, or if a field that must be 0 is not. A request that
 * fails has changed nothing.
 */
#ifndef _UAPI_LINUX_PORTCULLIS_H
#define _UAPI_LINUX_PORTCULLIS_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define PORTCULLIS_TRANSPORTS	16	/* most transports of a peer */
#define PORTCULLIS_QUEUES	16	/* most queues of a transport */
#define PORTCULLIS_VCPUS	8	/* most vCPUs of a peer */
#define PORTCULLIS_BELLS	32	/* most doorbells of a peer */
#define PORTCULLIS_NAME		32	/* bytes of a name, with its zero */
#define PORTCULLIS_CONFIG_SPACE	256	/* bytes of configuration space */

#define PORTCULLIS_RUNNING	(1U << 0)
#define PORTCULLIS_ATTACHED	(1U << 1)

/**
 * struct portcullis_info - what is known of the peer
 * @life:	number of the peer's run: it changes with each stop and start
 * @ram_base:	guest-physical address of the first byte of the window
 * @ram_size:	bytes of the window
 * @timeout_ms:	milliseconds that a forwarded access waits, 0 for ever
 * @vcpus:	how many vCPUs it has
 * @transports:	how many virtio-mmio transports it has
 * @flags:	PORTCULLIS_RUNNING, PORTCULLIS_ATTACHED
 * @device_id:	virtio's DeviceID of each transport, 0 beyond the last
 * @name:	name of the peer, with zeros behind it
 */
struct portcullis_info {
	__u64 life;
	__u64 ram_base;
	__u64 ram_size;
	__u32 timeout_ms;
	__u32 vcpus;
	__u32 transports;
	__u32 flags;
	__u32 device_id[PORTCULLIS_TRANSPORTS];
	char name[PORTCULLIS_NAME];
};

/**
 * struct portcullis_reg - a register of a transport
 * @transport:	which transport
 * @reg:	number of the register in bits 7:0, queue in bits 15:8
 * @value:	its value: an argument of REG_SET, the answer of REG_GET
 *
 * The numbers are those of docs/virtio-mmio.md, "What the server sees".
 */
struct portcullis_reg {
	__u32 transport;
	__u32 reg;
	__u64 value;
};

/**
 * struct portcullis_config - a part of a transport's configuration space
 * @transport:	which transport
 * @offset:	first byte of the part
 * @len:	bytes of the part, 1 to 256; it ends at byte 256 at most
 * @pad:	0
 * @data:	the bytes; those from @len on are ignored
 */
struct portcullis_config {
	__u32 transport;
	__u32 offset;
	__u32 len;
	__u32 pad;
	__u8 data[PORTCULLIS_CONFIG_SPACE];
};

/**
 * enum portcullis_fd_kind - what an eventfd is for
 * @PORTCULLIS_FD_QUEUE: it is signalled when a queue was notified
 * @PORTCULLIS_FD_EVENT: it is signalled when a transport's event word changed
 * @PORTCULLIS_FD_LIFE:	it is signalled when the peer started or stopped
 * @PORTCULLIS_FD_CALL:	the reverse: when somebody signals it, bits of
 *			InterruptStatus are set. Of one transport there may be
 *			several, each with its own bits
 */
enum portcullis_fd_kind {
	PORTCULLIS_FD_QUEUE	= 0,
	PORTCULLIS_FD_EVENT	= 1,
	PORTCULLIS_FD_LIFE	= 2,
	PORTCULLIS_FD_CALL	= 3,
};

/**
 * struct portcullis_fd - an eventfd for an event
 * @kind:	one of enum portcullis_fd_kind
 * @transport:	which transport; 0 for LIFE
 * @queue:	which queue for QUEUE; bits of InterruptStatus for CALL; else 0
 * @fd:		an eventfd, which takes the place of an earlier one; -1 removes
 *
 * An eventfd counts what happens from now on: after the request the caller
 * looks once itself. Several events may be one signal. LIFE needs no
 * attachment and outlasts it; the others end with it. With CALL, -1 removes all
 * eventfds of the transport with exactly these bits; ENOSPC: there are 512.
 */
struct portcullis_fd {
	__u32 kind;
	__u32 transport;
	__u32 queue;
	__s32 fd;
};

/**
 * struct portcullis_irq - an interrupt for the peer's driver
 * @transport:	which transport
 * @bits:	bits of InterruptStatus to set: 1 a buffer was used, 2 the
 *		configuration changed
 */
struct portcullis_irq {
	__u32 transport;
	__u32 bits;
};

/**
 * struct portcullis_done - the end of an event that the peer waits for
 * @transport:	which transport
 * @seq:	number of the event: EINVAL unless that very event waits
 */
struct portcullis_done {
	__u32 transport;
	__u32 seq;
};

/**
 * struct portcullis_access - a forwarded access that waits
 * @seq:	its number
 * @ipa:	guest-physical address
 * @value:	what a store writes, cut to @size; 0 for a load
 * @vcpu:	the vCPU that waits
 * @size:	bytes: 1, 2, 4 or 8
 * @store:	1 for a store, 0 for a load
 * @pad:	0
 */
struct portcullis_access {
	__u64 seq;
	__u64 ipa;
	__u64 value;
	__u32 vcpu;
	__u8 size;
	__u8 store;
	__u16 pad;
};

/**
 * struct portcullis_answer - the end of a forwarded access
 * @seq:	its number: EINVAL unless that very access waits
 * @value:	what a load reads
 * @vcpu:	the vCPU that waits
 * @error:	0, or 1: the access ends in an external abort
 */
struct portcullis_answer {
	__u64 seq;
	__u64 value;
	__u32 vcpu;
	__u32 error;
};

/**
 * struct portcullis_bell - a store that does not wait
 * @ipa:	guest-physical address, in a forwarded page
 * @value:	the value that rings, if @match is 1; else 0
 * @number:	number of the doorbell; it takes the place of an earlier one
 * @size:	bytes of the store: 1, 2, 4 or 8
 * @match:	1: only a store of @value rings. 0: every store rings
 * @fd:		an eventfd that is signalled; -1 removes the doorbell
 */
struct portcullis_bell {
	__u64 ipa;
	__u64 value;
	__u32 number;
	__u32 size;
	__u32 match;
	__s32 fd;
};

#define PORTCULLIS_IOC		0xB6

/* What is known of the peer. Needs no attachment. */
#define PORTCULLIS_INFO		_IOR(PORTCULLIS_IOC, 0, struct portcullis_info)
/*
 * Become the server of the peer in the life given, which INFO tells. What was
 * set up in an earlier life is removed, but for the eventfd of LIFE.
 */
#define PORTCULLIS_ATTACH	_IOW(PORTCULLIS_IOC, 1, __u64)
/* Ends the attachment. Eventfds but that of LIFE, and doorbells, are removed. */
#define PORTCULLIS_DETACH	_IO(PORTCULLIS_IOC, 2)
/* Read a register of a transport. */
#define PORTCULLIS_REG_GET	_IOWR(PORTCULLIS_IOC, 3, struct portcullis_reg)
/* Write a register of a transport. */
#define PORTCULLIS_REG_SET	_IOW(PORTCULLIS_IOC, 4, struct portcullis_reg)
/* Write a part of the configuration space that the peer reads. */
#define PORTCULLIS_CONFIG	_IOW(PORTCULLIS_IOC, 5, struct portcullis_config)
/* Set or remove an eventfd. */
#define PORTCULLIS_SET_FD	_IOW(PORTCULLIS_IOC, 6, struct portcullis_fd)
/* Set bits of InterruptStatus. */
#define PORTCULLIS_IRQ		_IOW(PORTCULLIS_IOC, 7, struct portcullis_irq)
/* A reset, the stop of a queue or a store to configuration space is done. */
#define PORTCULLIS_EVENT_DONE	_IOW(PORTCULLIS_IOC, 8, struct portcullis_done)
/* Wait for a forwarded access; with O_NONBLOCK, EAGAIN if there is none. */
#define PORTCULLIS_NEXT		_IOR(PORTCULLIS_IOC, 9, struct portcullis_access)
/* End a forwarded access. */
#define PORTCULLIS_ANSWER	_IOW(PORTCULLIS_IOC, 10, struct portcullis_answer)
/* Set or remove a doorbell. */
#define PORTCULLIS_DOORBELL	_IOW(PORTCULLIS_IOC, 11, struct portcullis_bell)

#endif /* _UAPI_LINUX_PORTCULLIS_H */
