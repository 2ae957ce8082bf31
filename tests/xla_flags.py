"""XLA's flags in tests: compiling is most of what they do.

Half the time without LLVM's optimizer, half of that again without the emitters
of fusions, and a quarter less in one piece instead of many that are compiled
beside each other: small shapes miss none of them.
"""

FAST = ('--xla_backend_optimization_level=0 '
        '--xla_cpu_use_fusion_emitters=false '
        '--xla_cpu_parallel_codegen_split_count=1')
EIGHT_DEVICES = '--xla_force_host_platform_device_count=8'
