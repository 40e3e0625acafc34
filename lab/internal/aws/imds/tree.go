package imds

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
)

// tree is metadata: paths below /latest and their texts. Directories follow from the paths.
type tree map[string]string

// set adds a leaf; what is empty is not there, as in EC2.
func (t tree) set(path, text string) {
	if text != "" {
		t[path] = text
	}
}

// lookup finds a leaf, or lists a directory: one name a line, directories with a slash.
func (t tree) lookup(path string) (string, bool) {
	if text, ok := t[path]; ok {
		return text, true
	}
	prefix := path + "/"
	if path == "" {
		prefix = ""
	}
	seen := map[string]bool{}
	var names []string
	for p := range t {
		rest, ok := strings.CutPrefix(p, prefix)
		if !ok {
			continue
		}
		name, _, dir := strings.Cut(rest, "/")
		if dir {
			name += "/"
		}
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", false
	}
	slices.Sort(names)
	return strings.Join(names, "\n"), true
}

// metadata are all leaves of an instance but its credentials, which are made when asked for.
func metadata(m *cloud.Model, i *cloud.Instance) tree {
	t := tree{}
	name := cloud.PrivateDNSName(m.Region, i.PrivateIP)
	const root = "meta-data/"
	t.set(root+"ami-id", i.ImageID)
	t.set(root+"ami-launch-index", "0")
	t.set(root+"hostname", name)
	t.set(root+"instance-action", "none")
	t.set(root+"instance-id", i.ID)
	t.set(root+"instance-life-cycle", "on-demand")
	t.set(root+"instance-type", i.Type)
	t.set(root+"local-hostname", name)
	t.set(root+"local-ipv4", i.PrivateIP.String())
	t.set(root+"mac", i.MAC)
	t.set(root+"placement/availability-zone", i.AZ)
	t.set(root+"placement/availability-zone-id", m.ZoneID(i.AZ))
	t.set(root+"placement/region", m.Region)
	t.set(root+"reservation-id", i.Reservation)
	t.set(root+"services/domain", "amazonaws.com")
	t.set(root+"services/partition", "aws")
	t.set("user-data", i.UserData)
	if i.PublicIP.IsValid() {
		t.set(root+"public-ipv4", i.PublicIP.String())
		t.set(root+"public-hostname", cloud.PublicDNSName(m.Region, i.PublicIP))
	}
	if i.Metadata.InstanceTags {
		for k, v := range i.Tags {
			t.set(root+"tags/instance/"+k, v)
		}
	}
	it, _ := cloud.TypeByName(i.Type)
	for _, e := range m.InstanceENIs(i.ID) {
		// What is still attaching is not yet seen from inside.
		if e.Attachment.Status == cloud.Attaching {
			continue
		}
		if e.Attachment.DeviceIndex == 0 && e.Attachment.NetworkCard == 0 {
			t.set(root+"security-groups", strings.Join(groupNames(m, e), "\n"))
		}
		networkInterface(t, root+"network/interfaces/macs/"+e.MAC+"/", m, e, len(it.Cards) > 1)
	}
	if r := m.NodeRole(i); r != nil {
		info, err := json.Marshal(map[string]string{
			"Code": "Success", "LastUpdated": i.LaunchTime.UTC().Format(time.RFC3339), "InstanceProfileArn": m.InstanceProfile[i.Profile].ARN, "InstanceProfileId": m.InstanceProfile[i.Profile].ID,
		})
		if err == nil {
			t.set(root+"iam/info", string(info))
		}
		// The leaf is a marker: what it says is made by the request.
		t.set(root+"iam/security-credentials/"+r.Name, "{}")
	}
	document, err := json.MarshalIndent(map[string]any{
		"accountId": m.Account, "architecture": it.Arch, "availabilityZone": i.AZ, "billingProducts": nil, "devpayProductCodes": nil, "marketplaceProductCodes": nil,
		"imageId": i.ImageID, "instanceId": i.ID, "instanceType": i.Type, "kernelId": nil, "pendingTime": i.LaunchTime.UTC().Format(time.RFC3339),
		"privateIp": i.PrivateIP.String(), "ramdiskId": nil, "region": m.Region, "version": "2017-09-30",
	}, "", "  ")
	if err == nil {
		t.set("dynamic/instance-identity/document", string(document))
	}
	return t
}

func networkInterface(t tree, root string, m *cloud.Model, e *cloud.ENI, cards bool) {
	var addresses, public, prefixes []string
	for _, a := range e.Addresses {
		addresses = append(addresses, a.IP.String())
		if a.Public.IsValid() {
			public = append(public, a.Public.String())
			t.set(root+"ipv4-associations/"+a.Public.String(), a.IP.String())
		}
	}
	for _, p := range e.Prefixes {
		prefixes = append(prefixes, p.String())
	}
	subnet, vpc := m.Subnets[e.SubnetID], m.VPCs[e.VPCID]
	t.set(root+"device-number", strconv.Itoa(e.Attachment.DeviceIndex))
	t.set(root+"interface-id", e.ID)
	t.set(root+"local-hostname", cloud.PrivateDNSName(m.Region, e.Primary()))
	t.set(root+"local-ipv4s", strings.Join(addresses, "\n"))
	t.set(root+"mac", e.MAC)
	t.set(root+"owner-id", m.Account)
	t.set(root+"public-ipv4s", strings.Join(public, "\n"))
	t.set(root+"ipv4-prefix", strings.Join(prefixes, "\n"))
	t.set(root+"security-group-ids", strings.Join(e.Groups, "\n"))
	t.set(root+"security-groups", strings.Join(groupNames(m, e), "\n"))
	t.set(root+"subnet-id", e.SubnetID)
	t.set(root+"vpc-id", e.VPCID)
	if cards {
		t.set(root+"network-card", strconv.Itoa(e.Attachment.NetworkCard))
	}
	if len(public) > 0 {
		if a, err := netip.ParseAddr(public[0]); err == nil {
			t.set(root+"public-hostname", cloud.PublicDNSName(m.Region, a))
		}
	}
	if subnet != nil {
		t.set(root+"subnet-ipv4-cidr-block", subnet.CIDR.String())
	}
	if vpc != nil {
		t.set(root+"vpc-ipv4-cidr-block", vpc.CIDR.String())
		t.set(root+"vpc-ipv4-cidr-blocks", vpc.CIDR.String())
	}
}

func groupNames(m *cloud.Model, e *cloud.ENI) []string {
	var out []string
	for _, id := range e.Groups {
		if g := m.Groups[id]; g != nil {
			out = append(out, g.Name)
		}
	}
	return out
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, who caller, path string) {
	if path == "" {
		s.text(w, "1.0\nlatest")
		return
	}
	rest, ok := strings.CutPrefix(path, "/latest")
	if !ok || rest != "" && rest[0] != '/' {
		fail(w, http.StatusNotFound)
		return
	}
	rest = strings.TrimPrefix(rest, "/")
	var text string
	role := ""
	s.cloud.Read(func(m *cloud.Model) {
		i := m.Instances[who.id]
		if i == nil {
			ok = false
			return
		}
		if n := m.NodeRole(i); n != nil {
			role = n.Name
		}
		text, ok = metadata(m, i).lookup(rest)
	})
	if !ok {
		fail(w, http.StatusNotFound)
		return
	}
	if role != "" && rest == "meta-data/iam/security-credentials/"+role {
		cred, err := s.cloud.InstanceCredentials(r.Context(), who.id)
		if err != nil {
			s.logger.Error("an instance's credentials cannot be made", "instance", who.id, "err", err)
			fail(w, http.StatusInternalServerError)
			return
		}
		b, err := json.MarshalIndent(map[string]string{
			"Code": "Success", "LastUpdated": s.cloud.Now().UTC().Format(time.RFC3339), "Type": "AWS-HMAC", "AccessKeyId": cred.AccessKeyID,
			"SecretAccessKey": cred.SecretAccessKey, "Token": cred.SessionToken, "Expiration": cred.Expiration.UTC().Format(time.RFC3339),
		}, "", "  ")
		if err != nil {
			fail(w, http.StatusInternalServerError)
			return
		}
		text = string(b)
	}
	s.text(w, text)
}
