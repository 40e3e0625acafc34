package services

import (
	"strings"
	"testing"
	"time"
)

const reported = `[{"SuiteDescription": "Kubernetes e2e suite", "SpecialSuiteFailureReasons": ["Suite Timeout Elapsed"], "SpecReports": [
 {"LeafNodeType": "SynchronizedBeforeSuite", "State": "failed", "Failure": {"Message": "no node is ready"}},
 {"ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeType": "It", "LeafNodeText": "should a [Conformance]", "State": "passed", "RunTime": 2000000000},
 {"ContainerHierarchyTexts": ["[sig-network] Services", "with x"], "LeafNodeType": "It", "LeafNodeText": "should b", "State": "failed",
  "Failure": {"Message": "1\n2\n3\n4\n5\n6\n7\n8", "Location": {"FileName": "service.go", "LineNumber": 12}}},
 {"ContainerHierarchyTexts": ["[sig-network] Services"], "LeafNodeType": "It", "LeafNodeText": "should c", "State": "skipped", "Failure": {"Message": "needs 3 nodes"}},
 {"ContainerHierarchyTexts": ["[sig-apps] Job"], "LeafNodeType": "It", "LeafNodeText": "not chosen", "State": "skipped"},
 {"ContainerHierarchyTexts": ["[sig-apps] Job"], "LeafNodeType": "It", "LeafNodeText": "pending", "State": "pending"},
 {"LeafNodeType": "ReportAfterSuite", "State": "passed"}]}]`

func TestReadReport(t *testing.T) {
	got, err := readReport(strings.NewReader(reported))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.specs) != 3 {
		t.Errorf("found %v, expected three specs", got.specs)
	}
	if r := got.specs["[sig-network] Services should a [Conformance]"]; r.state != passed || r.took != 2*time.Second {
		t.Errorf("a is %+v", r)
	}
	if r := got.specs["[sig-network] Services with x should b"]; r.state != "failed" || !strings.HasSuffix(r.message, "…") || strings.Contains(r.message, "7") {
		t.Errorf("b is %+v", r)
	}
	if r := got.specs["[sig-network] Services should c"]; r.state != skipped || r.message != "needs 3 nodes" {
		t.Errorf("c is %+v", r)
	}
	if len(got.aside) != 2 {
		t.Errorf("outside of specs: %q, expected the time-out and the failed beginning", got.aside)
	}
	if _, err := readReport(strings.NewReader("not JSON")); err == nil {
		t.Error("read something that isn't a report")
	}
}

func FuzzReadReport(f *testing.F) {
	f.Add(reported)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readReport(strings.NewReader(text))
		if err != nil {
			return
		}
		for name, r := range got.specs {
			if r.state == skipped && r.message == "" {
				t.Errorf("%q wasn't chosen, but is reported", name)
			}
		}
	})
}
