package cloud

import (
	"context"
	"maps"
	"strings"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
)

const maxTags = 50

func checkTags(have, add map[string]string) error {
	n := 0
	for k := range have {
		if _, again := add[k]; !again && !strings.HasPrefix(k, "aws:") {
			n++
		}
	}
	for k, v := range add {
		if strings.HasPrefix(strings.ToLower(k), "aws:") {
			return apierror.New("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
		}
		if k == "" || len(k) > 127 || len(v) > 255 {
			return apierror.New("InvalidParameterValue", "Tag key '%s' or its value has a length that is not allowed", k)
		}
		n++
	}
	if n > maxTags {
		return apierror.New("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
	}
	return nil
}

// TagsOf is a resource's tags and type; nil if there is no such resource.
func (m *Model) TagsOf(id string) (tags map[string]string, kind string) {
	switch {
	case m.ENIs[id] != nil:
		return m.ENIs[id].Tags, "network-interface"
	case m.Instances[id] != nil:
		return m.Instances[id].Tags, "instance"
	case m.Subnets[id] != nil:
		return m.Subnets[id].Tags, "subnet"
	case m.VPCs[id] != nil:
		return m.VPCs[id].Tags, "vpc"
	case m.Groups[id] != nil:
		return m.Groups[id].Tags, "security-group"
	case m.RouteTables[id] != nil:
		return m.RouteTables[id].Tags, "route-table"
	}
	return nil, ""
}

// CreateTags adds or overwrites tags on all the resources, or on none.
func (c *Cloud) CreateTags(ctx context.Context, resources []string, tags map[string]string) error {
	return c.change(ctx, func(m *Model) error {
		for _, id := range resources {
			have, kind := m.TagsOf(id)
			if kind == "" {
				return unknownResource(id)
			}
			if err := checkTags(have, tags); err != nil {
				return err
			}
		}
		for _, id := range resources {
			have, _ := m.TagsOf(id)
			maps.Copy(have, tags)
		}
		return nil
	})
}

// DeleteTags removes tags; a nil value removes whatever the value is.
func (c *Cloud) DeleteTags(ctx context.Context, resources []string, tags map[string]*string) error {
	return c.change(ctx, func(m *Model) error {
		for _, id := range resources {
			if _, kind := m.TagsOf(id); kind == "" {
				return unknownResource(id)
			}
		}
		for _, id := range resources {
			have, _ := m.TagsOf(id)
			for k, v := range tags {
				if v == nil || *v == have[k] {
					delete(have, k)
				}
			}
		}
		return nil
	})
}

func unknownResource(id string) error {
	kind, _, _ := strings.Cut(id, "-")
	switch kind {
	case "eni":
		return notFound("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", id)
	case "i":
		return notFound("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
	case "subnet":
		return notFound("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
	case "vpc":
		return notFound("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", id)
	case "sg":
		return notFound("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
	case "rtb":
		return notFound("InvalidRouteTableID.NotFound", "The routeTable ID '%s' does not exist", id)
	}
	return apierror.New("InvalidID", "The ID '%s' is not valid", id)
}
