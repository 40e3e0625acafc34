package ec2

import (
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

// kind is a type of resource: how its ids begin and what EC2 says of a wrong one.
type kind struct {
	prefix, malformed, notFound, text string
}

func eniKind() kind {
	return kind{"eni-", "InvalidNetworkInterfaceId.Malformed", "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist"}
}
func instanceKind() kind {
	return kind{"i-", "InvalidInstanceID.Malformed", "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist"}
}
func subnetKind() kind {
	return kind{"subnet-", "InvalidSubnetID.Malformed", "InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist"}
}
func vpcKind() kind {
	return kind{"vpc-", "InvalidVpcID.Malformed", "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist"}
}
func tableKind() kind {
	return kind{"rtb-", "InvalidRouteTableId.Malformed", "InvalidRouteTableID.NotFound", "The routeTable ID '%s' does not exist"}
}
func groupKind() kind {
	return kind{"sg-", "InvalidGroupId.Malformed", "InvalidGroup.NotFound", "The security group '%s' does not exist"}
}
func attachmentKind() kind {
	return kind{"eni-attach-", "InvalidNetworkInterfaceAttachmentId.Malformed", "InvalidAttachmentID.NotFound", "The interface attachment '%s' does not exist."}
}

// check refuses what can't be an id of the kind: 8 or 17 hexadecimal digits after the prefix.
func (k kind) check(id string) error {
	rest, ok := strings.CutPrefix(id, k.prefix)
	if ok && (len(rest) == 8 || len(rest) == 17) && strings.Trim(rest, "0123456789abcdef") == "" {
		return nil
	}
	return apierror.New(k.malformed, "Invalid id: \"%s\" (expecting \"%s...\")", id, k.prefix)
}

func (k kind) missing(id string) error { return apierror.New(k.notFound, k.text, id) }
