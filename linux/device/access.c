// SPDX-License-Identifier: GPL-2.0-only
/*
 * Forwarded accesses: EL2 writes one into the slot of the vCPU that waits for
 * it, its number last.
 */

#include <linux/bitfield.h>
#include <linux/sched/signal.h>

#include "device.h"
#include "hypercall.h"

static u64 slot_number(const struct peer *peer, unsigned int vcpu)
{
	return control_u64(peer, CONTROL_SLOT(vcpu) + SLOT_SEQ);
}

/**
 * peer_access_waits() - whether there is an access that NEXT would hand out
 * @peer: the peer
 *
 * Return: true if there is
 */
bool peer_access_waits(struct peer *peer)
{
	unsigned int v;

	if (!READ_ONCE(peer->attached))
		return false;
	for (v = 0; v < peer->vcpus; v++)
		if (slot_number(peer, v) != READ_ONCE(peer->slot_taken[v]))
			return true;
	return false;
}

/**
 * peer_access_begin() - begin to hand out accesses
 * @peer: the peer, just attached to
 *
 * An access that an earlier server left unanswered waits still: EL2 says of
 * which vCPUs. One that has ended is not handed out. The slots are read first,
 * so that an access between the two is handed out.
 */
void peer_access_begin(struct peer *peer)
{
	struct portcullis_peer_info info = {};
	u64 number[PORTCULLIS_VCPUS];
	unsigned long waiting, flags;
	unsigned int v;

	for (v = 0; v < peer->vcpus; v++)
		number[v] = slot_number(peer, v);
	portcullis_peer_info(peer->number, &info);
	waiting = FIELD_GET(PEER_INFO_WAITING, info.state);

	spin_lock_irqsave(&peer->lock, flags);
	for (v = 0; v < peer->vcpus; v++)
		WRITE_ONCE(peer->slot_taken[v],
			   waiting & BIT(v) ? ~number[v] : number[v]);
	spin_unlock_irqrestore(&peer->lock, flags);
}

/*
 * Takes the access of @vcpu. If EL2 writes the next one meanwhile, the copy has
 * the number of one that has ended: EL2 refuses its answer, and the next one is
 * taken after it.
 */
static bool take(struct peer *peer, unsigned int vcpu,
		 struct portcullis_access *access)
{
	unsigned int slot = CONTROL_SLOT(vcpu);
	u64 number = slot_number(peer, vcpu);
	u32 kind;

	if (number == peer->slot_taken[vcpu])
		return false;
	WRITE_ONCE(peer->slot_taken[vcpu], number);
	kind = control_u32(peer, slot + SLOT_KIND);
	*access = (struct portcullis_access) {
		.seq	= number,
		.ipa	= control_u64(peer, slot + SLOT_IPA),
		.value	= control_u64(peer, slot + SLOT_VALUE),
		.vcpu	= vcpu,
		.size	= kind & 0xff,
		.store	= kind >> 8 & 0xff,
	};
	return true;
}

/* Takes an access of any vCPU, each in its turn. */
static bool take_any(struct peer *peer, struct portcullis_access *access)
{
	unsigned int n, vcpu;
	unsigned long flags;
	bool taken = false;

	spin_lock_irqsave(&peer->lock, flags);
	for (n = 1; n <= peer->vcpus && !taken; n++) {
		vcpu = (peer->slot_last + n) % peer->vcpus;
		taken = take(peer, vcpu, access);
		if (taken)
			peer->slot_last = vcpu;
	}
	spin_unlock_irqrestore(&peer->lock, flags);
	return taken;
}

/**
 * peer_put_back() - hand out an access again
 * @peer: the peer
 * @access: an access that NEXT has taken, but could not hand out
 */
void peer_put_back(struct peer *peer, const struct portcullis_access *access)
{
	unsigned long flags;

	spin_lock_irqsave(&peer->lock, flags);
	if (peer->slot_taken[access->vcpu] == access->seq)
		WRITE_ONCE(peer->slot_taken[access->vcpu], ~access->seq);
	spin_unlock_irqrestore(&peer->lock, flags);
}

/**
 * peer_next() - take an access that waits
 * @peer: the peer
 * @access: where it is put
 * @block: wait for one
 *
 * Return: 0, -EAGAIN if there is none, -ENOTCONN, -ESTALE, -ERESTARTSYS
 */
int peer_next(struct peer *peer, struct portcullis_access *access, bool block)
{
	int err;

	for (;;) {
		if (!READ_ONCE(peer->attached))
			return -ENOTCONN;
		if (peer_is_gone(peer))
			return -ESTALE;
		if (take_any(peer, access))
			return 0;
		if (!block)
			return -EAGAIN;
		err = wait_event_interruptible(peer->wait,
					       !READ_ONCE(peer->attached) ||
					       peer_is_gone(peer) ||
					       peer_access_waits(peer));
		if (err)
			return err;
	}
}
