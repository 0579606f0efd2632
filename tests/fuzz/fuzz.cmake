# The fuzz targets. With INFERD_FUZZ (the preset `fuzz`, clang) each is linked with libFuzzer for
# tests/fuzz/run; without, with a main() that replays seeds and past findings, as a test.
option(INFERD_FUZZ "Link the fuzz targets with libFuzzer" OFF)
add_library(inferd_fuzz STATIC EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz.c)
target_link_libraries(inferd_fuzz PUBLIC inferd_kube)
set(fuzz_targets patch selector apply protobuf yaml accept request crd cel websocket spdy)
add_custom_target(fuzz_seeds
  COMMAND python3 ${CMAKE_SOURCE_DIR}/tests/fuzz/seeds.py ${CMAKE_BINARY_DIR}/fuzz-seeds)
add_test(NAME fuzz.seeds
  COMMAND python3 ${CMAKE_SOURCE_DIR}/tests/fuzz/seeds.py ${CMAKE_BINARY_DIR}/fuzz-seeds)
set_tests_properties(fuzz.seeds PROPERTIES FIXTURES_SETUP fuzz_seeds)
foreach(target IN LISTS fuzz_targets)
  add_executable(fuzz_${target} tests/fuzz/fuzz_${target}.c)
  target_link_libraries(fuzz_${target} PRIVATE inferd_fuzz)
  if(INFERD_FUZZ)
    target_link_options(fuzz_${target} PRIVATE -fsanitize=fuzzer)
    add_dependencies(fuzz_${target} fuzz_seeds)
    continue()
  endif()
  target_sources(fuzz_${target} PRIVATE tests/fuzz/replay.c)
  add_test(NAME fuzz.${target} COMMAND fuzz_${target}
    ${CMAKE_BINARY_DIR}/fuzz-seeds/${target} ${CMAKE_SOURCE_DIR}/tests/fuzz/found/${target})
  set_tests_properties(fuzz.${target} PROPERTIES TIMEOUT 900 FIXTURES_REQUIRED fuzz_seeds)
endforeach()
