package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weft-cni/weft/internal/status"
	"github.com/weft-cni/weft/internal/version"
)

type versions struct {
	Client string `json:"client"`
	// Agent and Operator are the images that run, most used first; Error says why they aren't known.
	Agent    []string `json:"agent"`
	Operator []string `json:"operator"`
	Error    string   `json:"error,omitempty"`
}

func newVersion(e *env) *cobra.Command {
	var (
		client bool
		output string
	)
	c := &cobra.Command{
		Use:     "version",
		Short:   "Show the versions of this program, the agents and the operator",
		Example: "  weft version\n  weft version --client",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("--output: found %q, expected json", output)
			}
			v := versions{Client: version.String(), Agent: []string{}, Operator: []string{}}
			if !client {
				running(cmd.Context(), e, &v)
			}
			if output == "json" {
				j := json.NewEncoder(e.Out)
				j.SetIndent("", "  ")
				return j.Encode(v)
			}
			fmt.Fprintln(e.Out, "client:  ", v.Client)
			if client {
				return nil
			}
			if v.Error != "" {
				fmt.Fprintln(e.Out, "cluster: ", v.Error)
				return nil
			}
			for _, part := range []struct {
				name   string
				images []string
			}{{"agent:   ", v.Agent}, {"operator:", v.Operator}} {
				line := strings.Join(part.images, ", ")
				if line == "" {
					line = "not running"
				}
				fmt.Fprintln(e.Out, part.name, line)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&client, "client", false, "this program's only; ask no cluster")
	c.Flags().StringVarP(&output, "output", "o", "", "json prints the versions as JSON")
	return c
}

// running adds what runs in the cluster.
func running(ctx context.Context, e *env, v *versions) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client, err := e.cluster.Connect()
	if err != nil {
		v.Error = err.Error()
		return
	}
	s, err := status.Collect(ctx, client, e.cluster.Namespace)
	if err != nil {
		v.Error = err.Error()
		return
	}
	images := status.Evaluate(s).Images
	sort.SliceStable(images, func(i, j int) bool { return images[i].Count > images[j].Count })
	for _, image := range images {
		tag := image.Reference
		if i := strings.LastIndexByte(tag, ':'); i > strings.LastIndexByte(tag, '/') {
			tag = tag[i+1:]
		}
		line := fmt.Sprintf("%s x%d (%s)", tag, image.Count, image.Reference)
		if image.Component == "agent" {
			v.Agent = append(v.Agent, line)
		} else {
			v.Operator = append(v.Operator, line)
		}
	}
}
