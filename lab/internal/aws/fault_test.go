package aws

import (
	"context"
	"errors"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"

	"github.com/weft-cni/weft/lab/internal/aws/fault"
)

// Over the wire: a caller that goes while its call is held doesn't undo it, a dry run and a call that isn't
// allowed don't count, and a lost answer is none.
func TestFaults(t *testing.T) {
	r := newRig(t)
	client := ec2.NewFromConfig(r.config(static(r.admin)))
	create := func(ctx context.Context, dry bool) error {
		_, err := client.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: &r.node.SubnetID, DryRun: &dry})
		return err
	}
	count := func() int {
		out, err := client.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.NetworkInterfaces)
	}
	before := count()
	t.Cleanup(func() { _, _ = r.emulator.ClearFault(0) }) // the server waits for what is held
	for _, f := range []fault.Fault{
		{Service: "ec2", Action: "CreateNetworkInterfaces", Kind: fault.Lose}, {Service: "s3", Action: "GetObject", Kind: fault.Lose},
	} {
		if _, err := r.emulator.SetFault(f); err == nil {
			t.Errorf("%s:%s is accepted", f.Service, f.Action)
		}
	}

	for _, kind := range []string{fault.HoldAfter, fault.HoldBefore} {
		id, err := r.emulator.SetFault(fault.Fault{Service: "ec2", Action: "CreateNetworkInterface", Kind: kind, Times: 1})
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, create(t.Context(), true), "DryRunOperation")
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err = create(ctx, false)
		cancel()
		var api smithy.APIError
		if err == nil || errors.As(err, &api) {
			t.Fatalf("%s: held and answered: %v", kind, err)
		}
		want := before
		if kind == fault.HoldAfter {
			want++
		}
		if n := count(); n != want {
			t.Errorf("%s: %d interfaces, want %d", kind, n, want)
		}
		if n, err := r.emulator.ReleaseFault(id); n != 1 || err != nil {
			t.Errorf("%s: released %d: %v", kind, n, err)
		}
		before++
		for end := time.Now().Add(10 * time.Second); count() != before; {
			if time.Now().After(end) {
				t.Fatalf("%s: %d interfaces after it was released, want %d", kind, count(), before)
			}
		}
		if s := r.emulator.Faults(); len(s) != 1 || s[0].Hits != 1 {
			t.Errorf("%s: %+v", kind, s)
		}
		if _, err := r.emulator.ClearFault(id); err != nil {
			t.Fatal(err)
		}
	}

	if _, err := r.emulator.SetFault(fault.Fault{Service: "ec2", Action: "DescribeSubnets", Kind: fault.Lose}); err != nil {
		t.Fatal(err)
	}
	_, err := client.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
	var api smithy.APIError
	if err == nil || errors.As(err, &api) {
		t.Errorf("a lost answer: %v", err)
	}
	if _, err := r.emulator.SetFault(fault.Fault{Service: "ec2", Action: "DescribeVpcs", Kind: fault.Refuse, Code: "RequestLimitExceeded", Times: 1}); err != nil {
		t.Fatal(err)
	}
	_, err = client.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
	wantCode(t, err, "RequestLimitExceeded")
	if _, err = client.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{MaxResults: awssdk.Int32(5)}); err != nil {
		t.Error(err)
	}
}
