package eks

import (
	"fmt"
	"net/http"

	"github.com/weft-cni/weft/lab/internal/aws/apierror"
	"github.com/weft-cni/weft/lab/internal/aws/cloud"
)

func listAddons() action {
	return action{
		name: "ListAddons", pattern: "GET /clusters/{cluster}/addons", resource: clusterARN,
		run: func(c call) (any, error) { return object{"addons": names(c.cluster.Addons)}, nil },
	}
}

func addonARN(m *cloud.Model, r *http.Request) string {
	return fmt.Sprintf("arn:aws:eks:%s:%s:addon/%s/%s/*", m.Region, m.Account, r.PathValue("cluster"), r.PathValue("addon"))
}

func describeAddon() action {
	return action{
		name: "DescribeAddon", pattern: "GET /clusters/{cluster}/addons/{addon}", resource: addonARN,
		run: func(c call) (any, error) {
			name := c.r.PathValue("addon")
			a := c.cluster.Addons[name]
			if a == nil {
				return nil, apierror.WithStatus(http.StatusNotFound, "ResourceNotFoundException", "No addon: %s found in cluster: %s", name, c.cluster.Name)
			}
			issues := []object{}
			for _, i := range a.Issues {
				issues = append(issues, object{"code": i.Code, "message": i.Message})
			}
			out := object{
				"addonName": a.Name, "clusterName": c.cluster.Name, "status": a.Status, "addonVersion": a.Version, "health": object{"issues": issues},
				"addonArn": addonARN(c.model, c.r), "createdAt": epoch(a.Created), "modifiedAt": epoch(a.Created), "tags": object{},
			}
			if a.RoleARN != "" {
				out["serviceAccountRoleArn"] = a.RoleARN
			}
			return object{"addon": out}, nil
		},
	}
}
