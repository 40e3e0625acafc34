package ec2

import (
	"maps"
	"slices"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
	"github.com/weft-cni/weft/lab/internal/aws/query"
)

const timeFormat = "2006-01-02T15:04:05.000Z"

func when(t time.Time) string { return t.UTC().Format(timeFormat) }

type tagXML struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

func tagsXML(tags map[string]string) []tagXML {
	out := []tagXML{}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, tagXML{k, tags[k]})
	}
	return out
}

type groupXML struct {
	GroupID   string `xml:"groupId"`
	GroupName string `xml:"groupName"`
}

func groupsXML(m *cloud.Model, ids []string) []groupXML {
	out := []groupXML{}
	for _, id := range ids {
		name := ""
		if g := m.Groups[id]; g != nil {
			name = g.Name
		}
		out = append(out, groupXML{id, name})
	}
	return out
}

// tagsFor are the tags of a request's TagSpecification for one type of resource; other types are refused.
func tagsFor(p *query.Params, resource string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range p.Structs("TagSpecification") {
		if s.String("ResourceType") != resource {
			return nil, apierror.New("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", s.String("ResourceType"))
		}
		tags, err := readTags(s)
		if err != nil {
			return nil, err
		}
		maps.Copy(out, tags)
	}
	return out, nil
}

func readTags(p *query.Params) (map[string]string, error) {
	out := map[string]string{}
	for _, t := range p.Structs("Tag") {
		k := t.String("Key")
		if _, twice := out[k]; twice {
			return nil, apierror.New("InvalidParameterValue", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		out[k] = t.String("Value")
	}
	return out, nil
}
