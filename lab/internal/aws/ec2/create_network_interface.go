package ec2

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/iampolicy"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

func createNetworkInterface() query.Action {
	type answer struct {
		ENI         eniXML `xml:"networkInterface"`
		ClientToken string `xml:"clientToken,omitempty"`
	}
	return query.Action{
		Name: "CreateNetworkInterface",
		Params: []string{"SubnetId", "Description", "SecurityGroupId", "PrivateIpAddress", "PrivateIpAddresses", "SecondaryPrivateIpAddressCount",
			"Ipv4Prefix", "Ipv4PrefixCount", "InterfaceType", "TagSpecification", "ClientToken"},
		Needs: func(call *query.Call) []iampolicy.Request {
			subnet := call.Params.String("SubnetId")
			eni := resource(call, "network-interface", "*")
			eni.Context["ec2:Subnet"] = []string{arn(call, "subnet", subnet)}
			needs := []iampolicy.Request{eni, resource(call, "subnet", subnet)}
			for _, g := range call.Params.List("SecurityGroupId") {
				needs = append(needs, resource(call, "security-group", g))
			}
			tags, err := tagsFor(call.Params, "network-interface")
			if err != nil || len(tags) == 0 {
				return needs
			}
			addRequestTags(eni.Context, tags)
			tag := resource(call, "network-interface", "*")
			tag.Action = "ec2:CreateTags"
			tag.Context["ec2:CreateAction"] = []string{"CreateNetworkInterface"}
			addRequestTags(tag.Context, tags)
			return append(needs, tag)
		},
		Run: func(call *query.Call) (any, error) {
			p := call.Params
			in := cloud.CreateENIInput{
				SubnetID: p.Required("SubnetId"), Description: p.String("Description"), Groups: p.List("SecurityGroupId"), Primary: p.Addr("PrivateIpAddress"),
				SecondaryCount: p.Count("SecondaryPrivateIpAddressCount"), PrefixCount: p.Count("Ipv4PrefixCount"), Token: p.String("ClientToken"),
			}
			for _, s := range p.Structs("PrivateIpAddresses") {
				a := s.Addr("PrivateIpAddress")
				primary := s.Bool("Primary")
				p.Merge(s)
				switch {
				case primary && in.Primary.IsValid() && in.Primary != a:
					return nil, apierror.New("InvalidParameterValue", "Only one primary private IP address can be specified.")
				case primary:
					in.Primary = a
				default:
					in.Secondary = append(in.Secondary, a)
				}
			}
			for _, s := range p.Structs("Ipv4Prefix") {
				in.Prefixes = append(in.Prefixes, s.Prefix("Ipv4Prefix"))
				p.Merge(s)
			}
			if t := p.String("InterfaceType"); t != "" && t != "interface" {
				return nil, apierror.New("InvalidParameterValue", "Value (%s) for parameter interfaceType is invalid. Expecting interface.", t)
			}
			var err error
			if in.Tags, err = tagsFor(p, "network-interface"); err != nil {
				return nil, err
			}
			if err := p.Err(); err != nil {
				return nil, err
			}
			if err := subnetKind().check(in.SubnetID); err != nil {
				return nil, err
			}
			sum := sha256.Sum256([]byte(p.Canonical("ClientToken")))
			in.Fingerprint = hex.EncodeToString(sum[:])
			e, err := call.Cloud.CreateENI(call.Context, in)
			if err != nil {
				return nil, err
			}
			out := answer{ClientToken: in.Token}
			call.Cloud.Read(func(m *cloud.Model) { out.ENI = newENIXML(m, &e) })
			if e.Attachment == nil {
				// The answer to a creation says pending; the next describe says available.
				out.ENI.Status = "pending"
			}
			return out, nil
		},
	}
}

func addRequestTags(ctx map[string][]string, tags map[string]string) {
	keys := slices.Sorted(maps.Keys(tags))
	ctx["aws:TagKeys"] = keys
	for _, k := range keys {
		ctx["aws:RequestTag/"+k] = []string{tags[k]}
	}
}
