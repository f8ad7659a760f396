# How cria is built for a system: which sources are its own, and how the libraries that travel in a package are linked:
# what they export, where they find one another, and what they ask of the system.
#
# Linux is what is tested. For macOS and Windows there are the sources and the options, as far as they could be made
# without one: CONTRIBUTING.md says how far.

include(CheckCXXSymbolExists)
include(CheckLinkerFlag)
if(UNIX AND NOT APPLE)
  check_cxx_symbol_exists(__GLIBC__ features.h CRIA_GLIBC)
  check_linker_flag(CXX -static-libstdc++ CRIA_STATIC_LIBSTDCXX)
endif()
if(CMAKE_SYSTEM_NAME STREQUAL "Linux" AND NOT CRIA_GLIBC)
  set(CRIA_MUSL ON)
endif()

# Of the sources in the list, NAME_windows.cc and NAME_macos.cc stand in for NAME.cc on their systems.
function(choose_sources list)
  set(chosen ${${list}})
  foreach(system Windows Darwin)
    string(REPLACE Darwin macos suffix ${system})
    string(TOLOWER ${suffix} suffix)
    set(theirs ${chosen})
    list(FILTER theirs INCLUDE REGEX "_${suffix}\\.cc$")
    if(CMAKE_SYSTEM_NAME STREQUAL system)
      string(REPLACE "_${suffix}.cc" ".cc" theirs "${theirs}")
    endif()
    if(theirs)
      list(REMOVE_ITEM chosen ${theirs})
    endif()
  endforeach()
  set(${list} ${chosen} PARENT_SCOPE)
endfunction()

# Exports what the version script has and nothing else, such as the templates of the C++ library. Elsewhere than on ELF
# systems the sources alone say it.
function(export_only target script)
  if(UNIX AND NOT APPLE)
    target_link_options(${target} PRIVATE -Wl,--version-script=${script})
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${script})
  endif()
endfunction()

# Has nothing undefined, unless the sanitizers' functions, which are in the program that loads it. Elsewhere than on ELF
# systems that is the linker's rule.
function(leave_nothing_undefined target)
  if(UNIX AND NOT APPLE AND NOT CRIA_SANITIZE)
    target_link_options(${target} PRIVATE -Wl,--no-undefined)
  endif()
endfunction()

# Its neighbours are looked for beside it, wherever that is. Windows always does.
function(find_beside target)
  if(APPLE)
    set(beside "@loader_path")
  else()
    set(beside "$ORIGIN")
  endif()
  set_target_properties(${target} PROPERTIES BUILD_RPATH ${beside} INSTALL_RPATH ${beside} BUILD_WITH_INSTALL_RPATH ON)
endfunction()

# Its threads may run until the process ends, so it is never unloaded, whatever loads it. macOS and Windows know no such
# mark of a library: there whoever loads it has to keep it, as Node.js does.
function(never_unload target)
  if(UNIX AND NOT APPLE)
    target_link_options(${target} PRIVATE -Wl,-z,nodelete)
  endif()
endfunction()

# __builtin_cpu_supports is a function of the compiler's own library, which on Windows nobody links.
function(link_compiler_runtime target)
  if(MSVC)
    execute_process(COMMAND ${CMAKE_CXX_COMPILER} /clang:--rtlib=compiler-rt /clang:--print-libgcc-file-name
                    OUTPUT_VARIABLE runtime OUTPUT_STRIP_TRAILING_WHITESPACE)
    target_link_libraries(${target} PRIVATE ${runtime})
  endif()
endfunction()

# Runs where there is no C++ library or an old one, for it holds its own, of which the linker drops all that it does not
# call (4 % more bytes), and on glibc 2.28 or later. A bare Alpine has not even the compiler's library, libgcc_s, which
# everything else with glibc has. Sanitizers want the C++ library that they know.
if(CRIA_GLIBC)
  add_library(cria_glibc OBJECT csrc/glibc.cc)
  target_compile_options(cria_glibc PRIVATE -ffunction-sections -fdata-sections)
endif()
function(run_anywhere target)
  if(CRIA_SANITIZE OR NOT UNIX OR APPLE)
    return()
  endif()
  target_link_options(${target} PRIVATE -Wl,--gc-sections)
  # Some distributions have it in a package of its own. What is built without it is as good, where it was built.
  if(CRIA_STATIC_LIBSTDCXX)
    target_link_options(${target} PRIVATE -static-libstdc++)
  endif()
  if(CRIA_MUSL)
    target_link_options(${target} PRIVATE -static-libgcc)
  endif()
  if(CRIA_GLIBC)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:cria_glibc>)
    # By their file names: where they are empty, there is nothing else to link.
    target_link_options(${target} PRIVATE
                        "LINKER:--push-state,--no-as-needed,-l:libdl.so.2,-l:libpthread.so.0,-l:librt.so.1,--pop-state")
  endif()
endfunction()
