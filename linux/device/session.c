// SPDX-License-Identifier: GPL-2.0-only
/*
 * One attachment: from ATTACH to DETACH, or to the end of the peer's life.
 */

#include "device.h"
#include "hypercall.h"

static void set_attached(struct peer *peer, bool attached, u64 life)
{
	unsigned long flags;

	spin_lock_irqsave(&peer->lock, flags);
	WRITE_ONCE(peer->life, life);
	WRITE_ONCE(peer->attached, attached);
	spin_unlock_irqrestore(&peer->lock, flags);
}

/**
 * peer_attach() - become the server of a peer
 * @peer: the peer
 * @life: its life, as INFO tells it
 *
 * What was set up in an attachment that ended with an earlier life is
 * forgotten. Called under the peer's mutex.
 *
 * Return: 0, -ESTALE if it has another life, or -EINVAL if it is attached
 */
int peer_attach(struct peer *peer, u64 life)
{
	lockdep_assert_held(&peer->mutex);
	if (peer->attached && !peer_is_gone(peer))
		return -EINVAL;
	if (portcullis_call(PORTCULLIS_ATTACH_FUNC,
			    portcullis_target(peer->number, 0), 1, life, 0))
		return control_u64(peer, CONTROL_LIFE) == life ? -EINVAL :
								 -ESTALE;
	peer_forget_fds(peer);
	peer_access_begin(peer);
	set_attached(peer, true, life);
	return 0;
}

/**
 * peer_detach() - be the server of a peer no longer
 * @peer: the peer
 *
 * Called under the peer's mutex.
 *
 * Return: 0, or -ENOTCONN
 */
int peer_detach(struct peer *peer)
{
	lockdep_assert_held(&peer->mutex);
	if (!peer->attached)
		return -ENOTCONN;
	/* EL2 refuses this if the life has ended, and with it all there was. */
	portcullis_call(PORTCULLIS_ATTACH_FUNC,
			portcullis_target(peer->number, 0), 0, peer->life, 0);
	set_attached(peer, false, 0);
	peer_forget_fds(peer);
	wake_up_all(&peer->wait);
	return 0;
}
