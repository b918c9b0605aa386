// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's half of a Portcullis device VM.
 *
 * A device VM answers accesses of other VMs, its peers, and so serves devices
 * to them. The device tree names the peers (docs/bindings/portcullis,device-vm.yaml).
 * For each there is a node in /dev/portcullis, by which one process at a time
 * reaches the memory that the peer shares, and EL2's calls about it. Nothing is
 * decided here: EL2 judges each call, and a process can only name its own peer.
 */

#include <linux/ctype.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/of_address.h>
#include <linux/of_irq.h>
#include <linux/platform_device.h>
#include <linux/string.h>

#include "device.h"
#include "hypercall.h"

/* The control page of peer 0; that of peer p is p pages further. */
#define CONTROL_BASE		0x0b000000
#define MOST_PEERS		32

/*
 * A peer can notify as fast as it can store, and each of its stores may be an
 * interrupt here. Beyond the limit the interrupt is masked until the next jiffy:
 * its peer is served later then, and everybody else goes on (as Xen's back ends
 * do since XSA-332).
 */
static unsigned int interrupts = 512;
module_param(interrupts, uint, 0444);
MODULE_PARM_DESC(interrupts,
		 "Most interrupts of a peer in a jiffy, 0 for no limit (512)");

static irqreturn_t peer_interrupt(int irq, void *data)
{
	struct peer *peer = data;

	spin_lock(&peer->lock);
	if (peer->period != jiffies) {
		peer->period = jiffies;
		peer->interrupts = 0;
	}
	if (++peer->interrupts == interrupts && !peer->closing) {
		disable_irq_nosync(irq);
		WRITE_ONCE(peer->pauses, peer->pauses + 1);
		mod_timer(&peer->unmask, jiffies + 1);
	}
	spin_unlock(&peer->lock);
	peer_look(peer);
	return IRQ_HANDLED;
}

static void peer_unmask(struct timer_list *timer)
{
	struct peer *peer = container_of(timer, struct peer, unmask);

	enable_irq(peer->irq);
	peer_look(peer);
}

/* The node goes first: then it is not open, and cannot be opened. */
static void peer_stop(void *data)
{
	struct peer *peer = data;
	unsigned long flags;

	peer_unregister(peer);
	spin_lock_irqsave(&peer->lock, flags);
	peer->closing = true;
	spin_unlock_irqrestore(&peer->lock, flags);
	timer_delete_sync(&peer->unmask);
	free_irq(peer->irq, peer);
}

/* A name becomes that of a file. */
static bool is_name(const char *name)
{
	const char *c;

	if (!*name || *name == '.' || strlen(name) >= PORTCULLIS_NAME)
		return false;
	for (c = name; *c; c++)
		if (!isalnum(*c) && !strchr("_.-", *c))
			return false;
	return true;
}

/* The entry @name of "reg". */
static int find_region(struct device_node *node, const char *name,
		       struct resource *region)
{
	int index = of_property_match_string(node, "reg-names", name);

	return index < 0 ? index : of_address_to_resource(node, index, region);
}

static void *map_region(struct device *dev, const struct resource *region)
{
	return devm_memremap(dev, region->start, resource_size(region),
			     MEMREMAP_WB);
}

/* The device tree and the control page say the same, or one of them is not ours. */
static int check_peer(struct device *dev, const struct peer *peer,
		      const struct resource *window)
{
	u32 magic = control_u32(peer, CONTROL_MAGIC);
	u32 version = control_u32(peer, CONTROL_VERSION);

	if (magic != CONTROL_MAGIC_VALUE || version != 1)
		return dev_err_probe(dev, -ENODEV,
				     "%s: its control page begins with %#x, version %u; this driver knows %#x, version 1\n",
				     peer->name, magic, version,
				     CONTROL_MAGIC_VALUE);
	if (control_u64(peer, CONTROL_WINDOW) != window->start ||
	    peer->ram_size != resource_size(window) ||
	    control_u32(peer, CONTROL_DEVICES) != peer->transports ||
	    !peer->vcpus || peer->vcpus > PORTCULLIS_VCPUS)
		return dev_err_probe(dev, -ENODEV,
				     "%s: its control page and the device tree disagree\n",
				     peer->name);
	return 0;
}

static int read_transports(struct device *dev, struct device_node *node,
			   struct peer *peer)
{
	struct resource region;
	int count, err;

	count = of_property_count_u32_elems(node, "portcullis,devices");
	if (count == -EINVAL)
		return 0;
	if (count < 1 || count > PORTCULLIS_TRANSPORTS)
		return -EINVAL;
	err = of_property_read_u32_array(node, "portcullis,devices",
					 peer->device_id, count);
	if (err)
		return err;
	err = find_region(node, "registers", &region);
	if (err)
		return err;
	if (resource_size(&region) < (resource_size_t)count * GRANULE)
		return -EINVAL;
	peer->images = map_region(dev, &region);
	if (IS_ERR(peer->images))
		return PTR_ERR(peer->images);
	peer->transports = count;
	return 0;
}

static int read_peer(struct device *dev, struct device_node *node,
		     struct peer *peer)
{
	struct resource control, window;
	int err;

	err = of_property_read_string(node, "label", &peer->name);
	if (err)
		return err;
	if (!is_name(peer->name))
		return -EINVAL;
	err = find_region(node, "control", &control);
	if (err)
		return err;
	if (control.start < CONTROL_BASE || control.start % GRANULE ||
	    resource_size(&control) < GRANULE)
		return -EINVAL;
	peer->number = (control.start - CONTROL_BASE) / GRANULE;
	if (peer->number >= MOST_PEERS)
		return -EINVAL;
	err = find_region(node, "window", &window);
	if (err)
		return err;
	if (!PAGE_ALIGNED(window.start))
		return -EINVAL;
	peer->control = map_region(dev, &control);
	if (IS_ERR(peer->control))
		return PTR_ERR(peer->control);
	err = read_transports(dev, node, peer);
	if (err)
		return err;
	peer->irq = of_irq_get(node, 0);
	if (peer->irq <= 0)
		return peer->irq ?: -EINVAL;
	peer->window = window.start;
	peer->ram_base = control_u64(peer, CONTROL_RAM_BASE);
	peer->ram_size = control_u64(peer, CONTROL_RAM_SIZE);
	peer->vcpus = control_u32(peer, CONTROL_VCPUS);
	return check_peer(dev, peer, &window);
}

static int add_peer(struct device *dev, struct device_node *node)
{
	struct peer *peer;
	int err;

	peer = devm_kzalloc(dev, sizeof(*peer), GFP_KERNEL);
	if (!peer)
		return -ENOMEM;
	mutex_init(&peer->mutex);
	INIT_LIST_HEAD(&peer->calls);
	spin_lock_init(&peer->lock);
	init_waitqueue_head(&peer->wait);
	timer_setup(&peer->unmask, peer_unmask, 0);
	err = read_peer(dev, node, peer);
	if (err)
		return dev_err_probe(dev, err, "%pOF: cannot be used\n", node);
	peer->life_seen = control_u64(peer, CONTROL_LIFE);

	err = request_irq(peer->irq, peer_interrupt, 0, peer->name, peer);
	if (err)
		return dev_err_probe(dev, err, "%s: interrupt\n", peer->name);
	err = peer_register(peer, dev);
	if (err) {
		free_irq(peer->irq, peer);
		return dev_err_probe(dev, err, "%s: node\n", peer->name);
	}
	err = devm_add_action_or_reset(dev, peer_stop, peer);
	if (err)
		return err;
	/* EL2's pulses are lost until the interrupt is enabled. */
	peer_look(peer);
	dev_info(dev, "peer %u: %s, %llu MiB, %u transports\n", peer->number,
		 peer->name, peer->ram_size >> 20, peer->transports);
	return 0;
}

/* Whether Portcullis is below, and this VM serves others. */
static int check_hypervisor(struct device *dev)
{
	struct arm_smccc_res uid, version;

	if (arm_smccc_1_1_get_conduit() != SMCCC_CONDUIT_HVC)
		return dev_err_probe(dev, -ENODEV, "there are no HVC calls\n");
	arm_smccc_1_1_hvc(ARM_SMCCC_VENDOR_HYP_CALL_UID_FUNC_ID, &uid);
	arm_smccc_1_1_hvc(PORTCULLIS_VERSION_FUNC, &version);
	if (uid.a0 != ARM_SMCCC_VENDOR_HYP_UID_KVM_REG_0 ||
	    uid.a1 != ARM_SMCCC_VENDOR_HYP_UID_KVM_REG_1 ||
	    uid.a2 != ARM_SMCCC_VENDOR_HYP_UID_KVM_REG_2 ||
	    uid.a3 != ARM_SMCCC_VENDOR_HYP_UID_KVM_REG_3 ||
	    version.a0 >> 16 != 1)
		return dev_err_probe(dev, -ENODEV,
				     "the hypervisor is not Portcullis 1.x\n");
	if ((version.a1 & PORTCULLIS_DEVICE_VM) != PORTCULLIS_DEVICE_VM)
		return dev_err_probe(dev, -ENODEV,
				     "this is no device VM: give it vm.role=device\n");
	return 0;
}

static int portcullis_probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	struct device_node *node;
	int err;

	err = check_hypervisor(dev);
	if (err)
		return err;
	for_each_available_child_of_node(dev->of_node, node) {
		err = add_peer(dev, node);
		if (err) {
			of_node_put(node);
			return err;
		}
	}
	return 0;
}

static const struct of_device_id portcullis_of_match[] = {
	{ .compatible = "portcullis,device-vm-1" },
	{}
};
MODULE_DEVICE_TABLE(of, portcullis_of_match);

/*
 * An open node holds the module. Unbinding would not wait for that, so that is
 * not offered.
 */
static struct platform_driver portcullis_driver = {
	.probe = portcullis_probe,
	.driver = {
		.name			= "portcullis-device",
		.of_match_table		= portcullis_of_match,
		.suppress_bind_attrs	= true,
	},
};
module_platform_driver(portcullis_driver);

MODULE_DESCRIPTION("Portcullis device VM");
MODULE_AUTHOR("The Portcullis developers");
MODULE_LICENSE("GPL");
