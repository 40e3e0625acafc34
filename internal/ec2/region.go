package ec2

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
)

// Region finds the region: given, from the SDK's environment and files, from the label of a node, or from
// the instance's metadata. source says which of them it was. label may be nil.
func Region(ctx context.Context, given string, label func(context.Context) (string, error)) (region, source string, err error) {
	if given != "" {
		return given, "flag", nil
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return "", "", fmt.Errorf("region: the AWS SDK's configuration: %w", err)
	}
	if cfg.Region != "" {
		return cfg.Region, "environment", nil
	}
	var problems []error
	if label != nil {
		region, err := label(ctx)
		if region != "" {
			return region, "node label", nil
		}
		problems = append(problems, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := imds.NewFromConfig(cfg).GetRegion(ctx, &imds.GetRegionInput{})
	if err == nil && out.Region != "" {
		return out.Region, "instance metadata", nil
	}
	problems = append(problems, err)
	return "", "", fmt.Errorf("region: not found in a flag, AWS_REGION, a node's label topology.kubernetes.io/region or the instance's metadata; set AWS_REGION: %w", errors.Join(problems...))
}
