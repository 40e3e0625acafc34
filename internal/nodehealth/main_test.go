package nodehealth

import (
	"os"
	"testing"

	"github.com/weft-cni/weft/internal/nodenet/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }
