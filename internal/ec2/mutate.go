package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// CreateInterface makes an ENI with its addresses and tags. It is safe to repeat with the same token.
func (c *Client) CreateInterface(ctx context.Context, in CreateInterface) (Interface, error) {
	req := &sdk.CreateNetworkInterfaceInput{
		SubnetId: aws.String(in.SubnetID), Groups: in.Groups, Description: aws.String(in.Description), ClientToken: aws.String(in.Token),
	}
	if in.Addresses > 0 {
		req.SecondaryPrivateIpAddressCount = aws.Int32(int32(in.Addresses))
	}
	if len(in.Tags) > 0 {
		spec := types.TagSpecification{ResourceType: types.ResourceTypeNetworkInterface}
		for _, k := range sortedKeys(in.Tags) {
			spec.Tags = append(spec.Tags, types.Tag{Key: aws.String(k), Value: aws.String(in.Tags[k])})
		}
		req.TagSpecifications = []types.TagSpecification{spec}
	}
	out, err := c.sdk.CreateNetworkInterface(ctx, req)
	if err != nil {
		return Interface{}, wrap(ActionCreateInterface, err)
	}
	if out.NetworkInterface == nil {
		return Interface{}, &Error{Action: ActionCreateInterface, Kind: ErrUncertain, Err: errors.New("the answer names no interface")}
	}
	e, err := networkInterface(*out.NetworkInterface)
	if err != nil {
		return Interface{}, &Error{Action: ActionCreateInterface, Kind: ErrUncertain, Err: err}
	}
	return e, nil
}

// AttachInterface begins to attach an ENI; it is attached some seconds later.
func (c *Client) AttachInterface(ctx context.Context, interfaceID, instanceID string, deviceIndex int) (string, error) {
	out, err := c.sdk.AttachNetworkInterface(ctx, &sdk.AttachNetworkInterfaceInput{
		NetworkInterfaceId: aws.String(interfaceID), InstanceId: aws.String(instanceID), DeviceIndex: aws.Int32(int32(deviceIndex)),
	}, onlyThrottled)
	if err != nil {
		return "", wrap(ActionAttachInterface, err)
	}
	return aws.ToString(out.AttachmentId), nil
}

// SetDeleteOnTermination says whether the ENI goes with its instance.
func (c *Client) SetDeleteOnTermination(ctx context.Context, interfaceID, attachmentID string, on bool) error {
	_, err := c.sdk.ModifyNetworkInterfaceAttribute(ctx, &sdk.ModifyNetworkInterfaceAttributeInput{
		NetworkInterfaceId: aws.String(interfaceID),
		Attachment:         &types.NetworkInterfaceAttachmentChanges{AttachmentId: aws.String(attachmentID), DeleteOnTermination: aws.Bool(on)},
	})
	return wrap(ActionModifyInterface, err)
}

// AssignAddresses adds n secondary addresses, all or none.
func (c *Client) AssignAddresses(ctx context.Context, interfaceID string, n int) ([]netip.Addr, error) {
	out, err := c.sdk.AssignPrivateIpAddresses(ctx, &sdk.AssignPrivateIpAddressesInput{
		NetworkInterfaceId: aws.String(interfaceID), SecondaryPrivateIpAddressCount: aws.Int32(int32(n)),
	}, onlyThrottled)
	if err != nil {
		return nil, wrap(ActionAssignAddresses, err)
	}
	var addrs []netip.Addr
	for _, a := range out.AssignedPrivateIpAddresses {
		addr, err := netip.ParseAddr(aws.ToString(a.PrivateIpAddress))
		if err != nil {
			return nil, &Error{Action: ActionAssignAddresses, Kind: ErrUncertain, Err: fmt.Errorf("%s: %w", interfaceID, err)}
		}
		addrs = append(addrs, addr)
	}
	return addrs, nil
}

// UnassignAddresses takes secondary addresses from an ENI.
func (c *Client) UnassignAddresses(ctx context.Context, interfaceID string, addresses []netip.Addr) error {
	_, err := c.sdk.UnassignPrivateIpAddresses(ctx, &sdk.UnassignPrivateIpAddressesInput{
		NetworkInterfaceId: aws.String(interfaceID), PrivateIpAddresses: texts(addresses),
	})
	return wrap(ActionUnassignAddresses, err)
}

// DetachInterface begins to detach an ENI; it is available some seconds later.
func (c *Client) DetachInterface(ctx context.Context, attachmentID string, force bool) error {
	_, err := c.sdk.DetachNetworkInterface(ctx, &sdk.DetachNetworkInterfaceInput{AttachmentId: aws.String(attachmentID), Force: aws.Bool(force)})
	return wrap(ActionDetachInterface, err)
}

// DeleteInterface deletes an ENI that isn't attached.
func (c *Client) DeleteInterface(ctx context.Context, interfaceID string) error {
	_, err := c.sdk.DeleteNetworkInterface(ctx, &sdk.DeleteNetworkInterfaceInput{NetworkInterfaceId: aws.String(interfaceID)})
	return wrap(ActionDeleteInterface, err)
}

// nowhere are ids that AWS never gives, and an address outside any VPC.
const (
	nowhereInterface  = "eni-00000000000000000"
	nowhereAttachment = "eni-attach-00000000000000000"
	nowhereAddress    = "169.254.0.1"
)

// Permitted calls the action as a dry run or, where EC2 has none, on an ENI that can't exist: EC2 judges the
// caller before the parameters.
func (c *Client) Permitted(ctx context.Context, action string) error {
	var err error
	switch action {
	case ActionUnassignAddresses:
		_, err = c.sdk.UnassignPrivateIpAddresses(ctx, &sdk.UnassignPrivateIpAddressesInput{
			NetworkInterfaceId: aws.String(nowhereInterface), PrivateIpAddresses: []string{nowhereAddress},
		})
	case ActionDetachInterface:
		_, err = c.sdk.DetachNetworkInterface(ctx, &sdk.DetachNetworkInterfaceInput{AttachmentId: aws.String(nowhereAttachment), DryRun: aws.Bool(true)})
	case ActionDeleteInterface:
		_, err = c.sdk.DeleteNetworkInterface(ctx, &sdk.DeleteNetworkInterfaceInput{NetworkInterfaceId: aws.String(nowhereInterface), DryRun: aws.Bool(true)})
	default:
		return fmt.Errorf("ec2:%s: it isn't known how to ask for permission", action)
	}
	err = wrap(action, err)
	switch {
	case err == nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrConflict), errors.Is(err, ErrRejected), errors.Is(err, ErrInUse):
		// DryRunOperation is the answer to a permitted dry run.
		return nil
	default:
		return err
	}
}

func texts(addresses []netip.Addr) []string {
	out := make([]string, len(addresses))
	for i, a := range addresses {
		out[i] = a.String()
	}
	return out
}
