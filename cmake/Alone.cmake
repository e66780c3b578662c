# farpool-worker-alone: the worker with every library but glibc inside, which `farpool up`
# brings to nodes where nothing is installed. Only where the libraries' archives are there
# and link: without them `farpool up` takes the usual worker, and the nodes need the
# libraries. Not with sanitizers, whose own libraries would have to travel.
if(FARPOOL_SANITIZE)
  return()
endif()
set(alone_libraries -Wl,-Bstatic -lzmq -lsodium -lmsgpackc -lbsd -lmd -lstdc++
    -Wl,-Bdynamic -lm -lpthread -static-libgcc)
set(alone_archives zmq sodium msgpackc bsd md)
foreach(archive ${alone_archives})
  find_library(alone_${archive} NAMES lib${archive}.a
               PATHS ${ZMQ_LIBDIR} ${SODIUM_LIBDIR} ${MSGPACK_LIBDIR})
  mark_as_advanced(alone_${archive})
  if(NOT alone_${archive})
    message(STATUS "farpool-worker-alone: not built, lib${archive}.a is missing")
    return()
  endif()
endforeach()
# Another libzmq may want other libraries.
try_compile(alone_links ${PROJECT_BINARY_DIR}/alone-try
            SOURCES ${PROJECT_SOURCE_DIR}/cmake/alone-try.c
                    ${PROJECT_SOURCE_DIR}/worker/alone_absent.c
            LINK_LIBRARIES ${alone_libraries})
if(NOT alone_links)
  message(STATUS "farpool-worker-alone: not built, libzmq.a wants libraries that are no archives")
  return()
endif()

add_executable(farpool-worker-alone worker/main.c worker/alone_absent.c)
set(alone_layers worker_shell worker_host worker_core farpool_net farpool_keys farpool_sys
    farpool_base)
target_compile_options(farpool-worker-alone PRIVATE ${FARPOOL_WARNINGS})
add_dependencies(farpool-worker-alone ${alone_layers})
# By their files: as targets they would bring the shared libraries along.
foreach(layer ${alone_layers})
  target_link_libraries(farpool-worker-alone PRIVATE $<TARGET_FILE:${layer}>)
endforeach()
target_link_libraries(farpool-worker-alone PRIVATE ${alone_libraries})
target_link_options(farpool-worker-alone PRIVATE -s)
set_target_properties(farpool-worker-alone PROPERTIES OUTPUT_NAME farpool-worker
                      RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/alone)
install(TARGETS farpool-worker-alone RUNTIME DESTINATION lib/farpool COMPONENT runtime)
