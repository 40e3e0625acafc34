package eks

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"time"

	"github.com/weft-cni/weft/lab/internal/aws/cloud"
)

type object = map[string]any

func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func listClusters() action {
	return action{
		name: "ListClusters", pattern: "GET /clusters", resource: func(*cloud.Model, *http.Request) string { return "*" },
		run: func(c call) (any, error) { return object{"clusters": names(c.model.Clusters)}, nil },
	}
}

func describeCluster() action {
	return action{
		name: "DescribeCluster", pattern: "GET /clusters/{cluster}", resource: clusterARN,
		run: func(c call) (any, error) {
			cl := c.cluster
			return object{"cluster": object{
				"name": cl.Name, "arn": c.model.ClusterARN(cl.Name), "createdAt": epoch(cl.Created), "version": cl.Version, "endpoint": cl.Endpoint,
				"roleArn": cl.RoleARN, "status": cl.Status, "platformVersion": "eks.1",
				"resourcesVpcConfig": object{
					"subnetIds": cl.Subnets, "securityGroupIds": []string{cl.ControlPlaneGroup}, "clusterSecurityGroupId": cl.SecurityGroup, "vpcId": cl.VPCID,
					"endpointPublicAccess": true, "endpointPrivateAccess": false, "publicAccessCidrs": []string{"0.0.0.0/0"},
				},
				"kubernetesNetworkConfig": object{"serviceIpv4Cidr": cidr(cl.ServiceCIDR), "ipFamily": "ipv4"},
				"logging":                 object{"clusterLogging": []object{{"types": []string{"api", "audit", "authenticator", "controllerManager", "scheduler"}, "enabled": false}}},
				"identity":                object{"oidc": object{"issuer": cl.Issuer}},
				"certificateAuthority":    object{"data": base64.StdEncoding.EncodeToString(cl.CA)},
				"tags":                    cl.Tags, "health": object{"issues": []string{}},
				"accessConfig": object{"authenticationMode": "API_AND_CONFIG_MAP"}, "upgradePolicy": object{"supportType": "EXTENDED"},
			}}, nil
		},
	}
}

func cidr(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}
