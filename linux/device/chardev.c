// SPDX-License-Identifier: GPL-2.0-only
/*
 * The node of a peer, /dev/portcullis/NAME.
 */

#include <linux/bitfield.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "device.h"
#include "hypercall.h"

static struct peer *file_peer(struct file *file)
{
	return container_of(file->private_data, struct peer, misc);
}

static int peer_open(struct inode *inode, struct file *file)
{
	return test_and_set_bit_lock(0, &file_peer(file)->open) ? -EBUSY : 0;
}

/* The last descriptor and the last mapping are gone. */
static int peer_release(struct inode *inode, struct file *file)
{
	struct peer *peer = file_peer(file);

	mutex_lock(&peer->mutex);
	peer_detach(peer);
	peer_forget_life(peer);
	mutex_unlock(&peer->mutex);
	clear_bit_unlock(0, &peer->open);
	return 0;
}

static loff_t peer_llseek(struct file *file, loff_t offset, int whence)
{
	return fixed_size_llseek(file, offset, whence,
				 file_peer(file)->ram_size);
}

static __poll_t peer_poll(struct file *file, poll_table *table)
{
	struct peer *peer = file_peer(file);
	__poll_t mask = 0;

	poll_wait(file, &peer->wait, table);
	if (peer_is_gone(peer))
		mask |= EPOLLHUP;
	else if (peer_access_waits(peer))
		mask |= EPOLLIN | EPOLLRDNORM;
	return mask;
}

/*
 * The window is memory that the peer maps write-back, so this mapping is too:
 * with another type the two would not be coherent (Arm ARM, "Mismatched memory
 * attributes"). There is something behind each of its pages, always.
 */
static int peer_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct peer *peer = file_peer(file);
	unsigned long pages = peer->ram_size >> PAGE_SHIFT;

	if (!(vma->vm_flags & VM_MAYSHARE) || vma->vm_flags & VM_EXEC)
		return -EINVAL;
	if (vma->vm_pgoff > pages || vma_pages(vma) > pages - vma->vm_pgoff)
		return -EINVAL;
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	vma->vm_flags &= ~VM_MAYEXEC;
#else
	vm_flags_clear(vma, VM_MAYEXEC);
#endif
	return remap_pfn_range(vma, vma->vm_start,
			       PHYS_PFN(peer->window) + vma->vm_pgoff,
			       vma->vm_end - vma->vm_start, vma->vm_page_prot);
}

static int get_info(struct peer *peer, struct portcullis_info *arg)
{
	struct portcullis_peer_info info;

	if (portcullis_peer_info(peer->number, &info))
		return -EIO;
	*arg = (struct portcullis_info) {
		.life		= info.life,
		.ram_base	= peer->ram_base,
		.ram_size	= peer->ram_size,
		.timeout_ms	= min_t(u64, info.timeout_ms, U32_MAX),
		.vcpus		= peer->vcpus,
		.transports	= peer->transports,
	};
	if (info.state & PEER_INFO_RUNNING)
		arg->flags |= PORTCULLIS_RUNNING;
	if (info.state & PEER_INFO_ATTACHED)
		arg->flags |= PORTCULLIS_ATTACHED;
	memcpy(arg->device_id, peer->device_id, sizeof(arg->device_id));
	strscpy(arg->name, peer->name, sizeof(arg->name));
	return 0;
}

/* A call about a transport, after which EL2's refusal gets its reason. */
static int transport_call(struct peer *peer, u32 func, u32 transport, u64 x2,
			  u64 x3, u64 x4)
{
	u64 target = portcullis_target(peer->number, transport);

	if (!READ_ONCE(peer->attached))
		return -ENOTCONN;
	if (transport >= peer->transports)
		return -EINVAL;
	if (portcullis_call(func, target, x2, x3, x4))
		return peer_error(peer);
	return 0;
}

static int reg_get(struct peer *peer, struct portcullis_reg *arg)
{
	u64 target = portcullis_target(peer->number, arg->transport);

	if (!READ_ONCE(peer->attached))
		return -ENOTCONN;
	if (arg->transport >= peer->transports)
		return -EINVAL;
	if (portcullis_reg_get(target, arg->reg, &arg->value))
		return peer_error(peer);
	return 0;
}

static int answer(struct peer *peer, const struct portcullis_answer *arg)
{
	u64 target = portcullis_target(peer->number, arg->vcpu);

	if (!READ_ONCE(peer->attached))
		return -ENOTCONN;
	if (arg->vcpu >= peer->vcpus || arg->error > 1)
		return -EINVAL;
	if (portcullis_call(PORTCULLIS_COMPLETE_FUNC, target, arg->seq,
			    arg->value, arg->error))
		return peer_error(peer);
	return 0;
}

/* Writes as much of @len bytes as one aligned store of at most 8 bytes can. */
static size_t write_unit(void *to, const u8 *from, size_t len)
{
	u64 x8;
	u32 x4;
	u16 x2;

	if (IS_ALIGNED((uintptr_t)to, sizeof(x8)) && len >= sizeof(x8)) {
		memcpy(&x8, from, sizeof(x8));
		WRITE_ONCE(*(u64 *)to, x8);
		return sizeof(x8);
	}
	if (IS_ALIGNED((uintptr_t)to, sizeof(x4)) && len >= sizeof(x4)) {
		memcpy(&x4, from, sizeof(x4));
		WRITE_ONCE(*(u32 *)to, x4);
		return sizeof(x4);
	}
	if (IS_ALIGNED((uintptr_t)to, sizeof(x2)) && len >= sizeof(x2)) {
		memcpy(&x2, from, sizeof(x2));
		WRITE_ONCE(*(u16 *)to, x2);
		return sizeof(x2);
	}
	WRITE_ONCE(*(u8 *)to, *from);
	return 1;
}

/* EL2 reads single aligned words of the image while it is written. */
static void write_image(void *to, const u8 *from, size_t len)
{
	size_t done;

	for (done = 0; done < len;)
		done += write_unit(to + done, from + done, len - done);
}

static int set_config(struct peer *peer, const struct portcullis_config *arg)
{
	int err = 0;

	if (arg->pad || arg->transport >= peer->transports || !arg->len)
		return -EINVAL;
	if (arg->offset >= PORTCULLIS_CONFIG_SPACE ||
	    arg->len > PORTCULLIS_CONFIG_SPACE - arg->offset)
		return -EINVAL;
	mutex_lock(&peer->mutex);
	if (!peer->attached || peer_is_gone(peer))
		err = peer_error(peer);
	else
		write_image(peer->images + arg->transport * GRANULE +
			    arg->offset, arg->data, arg->len);
	mutex_unlock(&peer->mutex);
	return err;
}

static long peer_ioctl(struct file *file, unsigned int cmd, unsigned long raw)
{
	struct peer *peer = file_peer(file);
	void __user *user = (void __user *)raw;
	union {
		struct portcullis_info info;
		struct portcullis_reg reg;
		struct portcullis_config config;
		struct portcullis_fd fd;
		struct portcullis_irq irq;
		struct portcullis_done done;
		struct portcullis_access access;
		struct portcullis_answer answer;
		struct portcullis_bell bell;
		u64 life;
	} arg;
	long err;

	if (_IOC_SIZE(cmd) > sizeof(arg))
		return -ENOTTY;
	if (_IOC_DIR(cmd) & _IOC_WRITE &&
	    copy_from_user(&arg, user, _IOC_SIZE(cmd)))
		return -EFAULT;

	switch (cmd) {
	case PORTCULLIS_INFO:
		err = get_info(peer, &arg.info);
		break;
	case PORTCULLIS_ATTACH:
		mutex_lock(&peer->mutex);
		err = peer_attach(peer, arg.life);
		mutex_unlock(&peer->mutex);
		break;
	case PORTCULLIS_DETACH:
		mutex_lock(&peer->mutex);
		err = peer_detach(peer);
		mutex_unlock(&peer->mutex);
		break;
	case PORTCULLIS_REG_GET:
		err = reg_get(peer, &arg.reg);
		break;
	case PORTCULLIS_REG_SET:
		err = transport_call(peer, PORTCULLIS_REG_FUNC,
				     arg.reg.transport, 1, arg.reg.reg,
				     arg.reg.value);
		break;
	case PORTCULLIS_CONFIG:
		err = set_config(peer, &arg.config);
		break;
	case PORTCULLIS_SET_FD:
		mutex_lock(&peer->mutex);
		err = peer_set_fd(peer, &arg.fd);
		mutex_unlock(&peer->mutex);
		break;
	case PORTCULLIS_IRQ:
		err = transport_call(peer, PORTCULLIS_IRQ_FUNC,
				     arg.irq.transport, PORTCULLIS_IRQ_STATUS,
				     arg.irq.bits, 0);
		break;
	case PORTCULLIS_EVENT_DONE:
		err = transport_call(peer, PORTCULLIS_EVENT_DONE_FUNC,
				     arg.done.transport, arg.done.seq, 0, 0);
		break;
	case PORTCULLIS_NEXT:
		err = peer_next(peer, &arg.access,
				!(file->f_flags & O_NONBLOCK));
		break;
	case PORTCULLIS_ANSWER:
		err = answer(peer, &arg.answer);
		break;
	case PORTCULLIS_DOORBELL:
		mutex_lock(&peer->mutex);
		err = peer_set_bell(peer, &arg.bell);
		mutex_unlock(&peer->mutex);
		break;
	default:
		return -ENOTTY;
	}

	if (err || !(_IOC_DIR(cmd) & _IOC_READ))
		return err;
	if (copy_to_user(user, &arg, _IOC_SIZE(cmd))) {
		if (cmd == PORTCULLIS_NEXT)
			peer_put_back(peer, &arg.access);
		return -EFAULT;
	}
	return 0;
}

static const struct file_operations peer_fops = {
	.owner		= THIS_MODULE,
	.open		= peer_open,
	.release	= peer_release,
	.llseek		= peer_llseek,
	.poll		= peer_poll,
	.mmap		= peer_mmap,
	.unlocked_ioctl	= peer_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct peer *device_peer(struct device *dev)
{
	struct miscdevice *misc = dev_get_drvdata(dev);

	return container_of(misc, struct peer, misc);
}

/* For udev, which gives each node a group by the name of its peer. */
static ssize_t peer_show(struct device *dev, struct device_attribute *attr,
			 char *buf)
{
	return sysfs_emit(buf, "%s\n", device_peer(dev)->name);
}
static DEVICE_ATTR_RO(peer);

/* How often the peer's interrupt was masked until the next jiffy. */
static ssize_t pauses_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	return sysfs_emit(buf, "%lu\n", READ_ONCE(device_peer(dev)->pauses));
}
static DEVICE_ATTR_RO(pauses);

static struct attribute *peer_attrs[] = {
	&dev_attr_peer.attr,
	&dev_attr_pauses.attr,
	NULL
};
ATTRIBUTE_GROUPS(peer);

/**
 * peer_register() - make the node of a peer
 * @peer: the peer
 * @parent: the device of all peers
 *
 * Return: 0, or an error
 */
int peer_register(struct peer *peer, struct device *parent)
{
	snprintf(peer->node, sizeof(peer->node), "portcullis!%s", peer->name);
	peer->misc = (struct miscdevice) {
		.minor	= MISC_DYNAMIC_MINOR,
		.name	= peer->node,
		.fops	= &peer_fops,
		.parent	= parent,
		.groups	= peer_groups,
		.mode	= 0600,
	};
	return misc_register(&peer->misc);
}

/**
 * peer_unregister() - remove the node of a peer
 * @peer: the peer; its node is not open
 */
void peer_unregister(struct peer *peer)
{
	misc_deregister(&peer->misc);
}
