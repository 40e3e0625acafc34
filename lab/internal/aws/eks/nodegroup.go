package eks

import (
	"fmt"
	"net/http"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
)

func listNodegroups() action {
	return action{
		name: "ListNodegroups", pattern: "GET /clusters/{cluster}/node-groups", resource: clusterARN,
		run: func(c call) (any, error) { return object{"nodegroups": names(c.cluster.Nodegroups)}, nil },
	}
}

func nodegroupARN(m *cloud.Model, r *http.Request) string {
	name, id := r.PathValue("group"), "*"
	if cl := m.Clusters[r.PathValue("cluster")]; cl != nil && cl.Nodegroups[name] != nil {
		id = cl.Nodegroups[name].ID
	}
	return fmt.Sprintf("arn:aws:eks:%s:%s:nodegroup/%s/%s/%s", m.Region, m.Account, r.PathValue("cluster"), name, id)
}

func describeNodegroup() action {
	return action{
		name: "DescribeNodegroup", pattern: "GET /clusters/{cluster}/node-groups/{group}", resource: nodegroupARN,
		run: func(c call) (any, error) {
			name := c.r.PathValue("group")
			g := c.cluster.Nodegroups[name]
			if g == nil {
				return nil, apierror.WithStatus(http.StatusNotFound, "ResourceNotFoundException", "No node group found for name: %s.", name)
			}
			taints := []object{}
			for _, t := range g.Taints {
				taints = append(taints, object{"key": t.Key, "value": t.Value, "effect": t.Effect})
			}
			return object{"nodegroup": object{
				"nodegroupName": g.Name, "nodegroupArn": nodegroupARN(c.model, c.r), "clusterName": c.cluster.Name, "version": g.Version, "releaseVersion": g.Version,
				"createdAt": epoch(g.Created), "modifiedAt": epoch(g.Created), "status": "ACTIVE", "capacityType": "ON_DEMAND",
				"scalingConfig": object{"minSize": g.Min, "maxSize": g.Max, "desiredSize": g.Desired}, "instanceTypes": []string{g.InstanceType},
				"subnets": g.Subnets, "amiType": g.AMIType, "nodeRole": g.RoleARN, "labels": g.Labels, "taints": taints, "diskSize": 80,
				"resources": object{"autoScalingGroups": []object{{"name": g.AutoScaling}}}, "health": object{"issues": []string{}}, "tags": g.Tags,
			}}, nil
		},
	}
}
