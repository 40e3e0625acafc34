package cloud

import (
	"context"
	"slices"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// maxDeviceIndex bounds device names; EC2 takes any small number.
const maxDeviceIndex = 99

// AttachInput asks for an interface to be attached.
type AttachInput struct {
	ENI, Instance string
	DeviceIndex   int
	NetworkCard   int
}

// Attach begins to attach an interface and returns the attachment's id.
func (c *Cloud) Attach(ctx context.Context, in AttachInput) (Attachment, error) {
	var out Attachment
	err := c.change(ctx, func(m *Model) error {
		i := m.Instances[in.Instance]
		if i == nil {
			return notFound("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", in.Instance)
		}
		e, err := m.eni(in.ENI)
		if err != nil {
			return err
		}
		if e.Requester != "" {
			return apierror.New("OperationNotPermitted", "You do not have permission to access the specified resource.")
		}
		if i.State != Running && i.State != "stopped" {
			return apierror.New("IncorrectState", "Instance '%s' is not 'running' or 'stopped'.", i.ID)
		}
		if e.VPCID != i.VPCID {
			return apierror.New("InvalidParameterCombination", "You may not attach a network interface to an instance if they are not in the same VPC")
		}
		if e.AZ != i.AZ {
			return apierror.New("InvalidParameterCombination", "You may not attach a network interface to an instance if they are not in the same availability zone")
		}
		if e.Attachment != nil {
			return apierror.New("InvalidNetworkInterface.InUse", "Interface: [%s] in use.", e.ID)
		}
		t, ok := TypeByName(i.Type)
		if !ok {
			return apierror.New("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", i.Type)
		}
		if in.NetworkCard < 0 || in.NetworkCard >= len(t.Cards) {
			return apierror.New("InvalidParameterValue", "Network card index '%d' is not valid for %s", in.NetworkCard, i.Type)
		}
		onCard := 0
		for _, other := range m.InstanceENIs(i.ID) {
			if other.Attachment.NetworkCard != in.NetworkCard {
				continue
			}
			onCard++
			if other.Attachment.DeviceIndex == in.DeviceIndex {
				return apierror.New("InvalidParameterValue", "Instance '%s' already has an interface attached at device index '%d'.", i.ID, in.DeviceIndex)
			}
		}
		if onCard+1 > t.Cards[in.NetworkCard] {
			return apierror.New("AttachmentLimitExceeded", "Interface count %d exceeds the limit for %s", onCard+1, i.Type)
		}
		if in.DeviceIndex < 0 || in.DeviceIndex > maxDeviceIndex {
			return apierror.New("InvalidParameterValue", "Device index '%d' is not valid", in.DeviceIndex)
		}
		if e.used() > t.IPv4PerENI {
			return apierror.New("PrivateIpAddressLimitExceeded", "Number of private addresses will exceed limit.")
		}
		if len(e.Prefixes) > 0 && !t.Prefixes() {
			return apierror.New("InvalidParameterCombination", "Prefix delegation is only supported on instances built on the Nitro system")
		}
		now := c.cfg.Now()
		a := &Attachment{
			ID: newID(c.rng, "eni-attach"), InstanceID: i.ID, InstanceOwner: m.Account, DeviceIndex: in.DeviceIndex,
			NetworkCard: in.NetworkCard, Status: Attaching, Since: now, Due: now.Add(c.latency.Attach),
		}
		e.Attachment = a
		i.ENIs = append(i.ENIs, e.ID)
		c.planAttached(e.ID, a)
		out = *a
		c.settle()
		return nil
	})
	return out, err
}

func (c *Cloud) planAttached(eni string, a *Attachment) {
	id := a.ID
	c.due.add(a.Due, func(c *Cloud) bool {
		e := c.m.ENIs[eni]
		if e == nil || e.Attachment == nil || e.Attachment.ID != id || e.Attachment.Status != Attaching {
			return false
		}
		e.Attachment.Status = Attached
		return true
	})
}

// Detach begins to detach; force does it at once.
func (c *Cloud) Detach(ctx context.Context, attachment string, force bool) error {
	return c.change(ctx, func(m *Model) error {
		e := m.byAttachment(attachment)
		if e == nil {
			return notFound("InvalidAttachmentID.NotFound", "The interface attachment '%s' does not exist.", attachment)
		}
		if e.Requester != "" {
			return apierror.New("OperationNotPermitted", "You do not have permission to access the specified resource.")
		}
		a := e.Attachment
		if a.DeviceIndex == 0 {
			return apierror.New("OperationNotPermitted", "The network interface at device index 0 and networkCard index %d cannot be detached.", a.NetworkCard)
		}
		if a.Status == Detaching && !force {
			return apierror.New("IncorrectState", "Network interface attachment '%s' is being detached", attachment)
		}
		a.Status = Detaching
		a.Due = c.cfg.Now().Add(c.latency.Detach)
		if force {
			a.Due = c.cfg.Now()
		}
		c.planDetached(e.ID, a)
		c.settle()
		return nil
	})
}

func (c *Cloud) planDetached(eni string, a *Attachment) {
	id := a.ID
	c.due.add(a.Due, func(c *Cloud) bool {
		e := c.m.ENIs[eni]
		if e == nil || e.Attachment == nil || e.Attachment.ID != id || e.Attachment.Status != Detaching {
			return false
		}
		c.m.unplug(e)
		return true
	})
}

func (m *Model) unplug(e *ENI) {
	if i := m.Instances[e.Attachment.InstanceID]; i != nil {
		i.ENIs = slices.DeleteFunc(i.ENIs, func(id string) bool { return id == e.ID })
	}
	e.Attachment = nil
}

func (m *Model) byAttachment(id string) *ENI {
	for _, e := range m.ENIs {
		if e.Attachment != nil && e.Attachment.ID == id {
			return e
		}
	}
	return nil
}

// SetDeleteOnTermination says whether an attached interface goes with its instance.
func (c *Cloud) SetDeleteOnTermination(ctx context.Context, eni, attachment string, on bool) error {
	return c.change(ctx, func(m *Model) error {
		e, err := m.eni(eni)
		if err != nil {
			return err
		}
		if e.Attachment == nil || e.Attachment.ID != attachment {
			return notFound("InvalidAttachmentID.NotFound", "The interface attachment '%s' does not exist.", attachment)
		}
		e.Attachment.DeleteOnTermination = on
		return nil
	})
}
